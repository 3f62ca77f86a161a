package egress

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func prefixes(t testing.TB, s ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// testPolicy has interfaces at 93.184.216.34/24, 10.9.0.1/16 and 2606:2800:220:1::7/64.
func testPolicy(t testing.TB, c Config) *policy {
	t.Helper()
	p, err := newPolicy(&c)
	if err != nil {
		t.Fatal(err)
	}
	p.listLocal = func() ([]net.Addr, error) {
		return []net.Addr{
			&net.IPNet{IP: net.IPv4(93, 184, 216, 34), Mask: net.CIDRMask(24, 32)},
			&net.IPNet{IP: net.IPv4(10, 9, 0, 1), Mask: net.CIDRMask(16, 32)},
			&net.IPNet{IP: net.ParseIP("2606:2800:220:1::7"), Mask: net.CIDRMask(64, 128)},
			&net.UnixAddr{Name: "not an address"},
		}, nil
	}
	return p
}

func TestPolicyDefault(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, Config{Own: []netip.AddrPort{
		netip.MustParseAddrPort("1.0.0.1:443"), netip.MustParseAddrPort("1.0.0.2:0"), netip.MustParseAddrPort("0.0.0.0:8443")}})
	tests := []struct {
		addr string
		want reason
	}{
		// The public internet.
		{"8.8.8.8", ""}, {"1.1.1.1", ""}, {"11.0.0.1", ""}, {"172.15.255.255", ""}, {"172.32.0.0", ""},
		{"192.167.255.255", ""}, {"192.169.0.0", ""}, {"100.63.255.255", ""}, {"100.128.0.0", ""},
		{"198.17.255.255", ""}, {"198.20.0.0", ""}, {"223.255.255.255", ""}, {"169.253.255.255", ""},
		{"93.184.216.35", ""}, {"192.0.1.1", ""},
		{"2606:4700::1111", ""}, {"2001:4860:4860::8888", ""}, {"2a00:1450:4001::1", ""}, {"2001:200::1", ""},
		{"2606:2800:220:1::8", ""},
		{"::ffff:8.8.8.8", ""},   // IPv4-mapped: it is 8.8.8.8
		{"64:ff9b::8.8.8.8", ""}, // NAT64, which an IPv6-only gateway needs

		// Not one host.
		{"0.0.0.0", manyHosts}, {"::", manyHosts}, {"::ffff:0.0.0.0", manyHosts}, {"255.255.255.255", manyHosts},
		{"224.0.0.251", manyHosts}, {"239.255.255.250", manyHosts}, {"ff02::1", manyHosts}, {"ff0e::1", manyHosts},
		{"93.184.216.255", manyHosts}, {"10.9.255.255", manyHosts}, {"64:ff9b::224.0.0.1", manyHosts},

		// This machine.
		{"127.0.0.1", loopback}, {"127.255.255.254", loopback}, {"::1", loopback}, {"::ffff:127.0.0.1", loopback},
		{"::ffff:7f00:1", loopback}, {"0.1.2.3", notPublic}, {"93.184.216.34", ownAddress},
		{"::ffff:93.184.216.34", ownAddress}, {"2606:2800:220:1::7", ownAddress}, {"1.0.0.2", ownAddress},
		{"64:ff9b::93.184.216.34", ownAddress}, {"64:ff9b::1.0.0.2", ownAddress},

		// Its networks.
		{"10.0.0.1", private}, {"10.255.255.255", private}, {"172.16.0.1", private}, {"172.31.255.255", private},
		{"192.168.0.1", private}, {"100.64.0.1", private}, {"100.127.255.255", private},
		{"fc00::1", private}, {"fd12:3456::1", private}, {"fdff:ffff::1", private}, {"fec0::1", private},
		{"169.254.0.1", linkLocal}, {"fe80::1", linkLocal}, {"febf::1", linkLocal},
		{"fe80::1%eth0", badAddress}, {"::ffff:10.0.0.1", private}, {"::ffff:192.168.1.1", private},

		// Clouds.
		{"169.254.169.254", metadata}, {"fd00:ec2::254", metadata}, {"100.100.100.200", metadata},
		{"168.63.129.16", metadata}, {"::ffff:169.254.169.254", metadata}, {"64:ff9b::a9fe:a9fe", metadata},
		{"fd20:ce::254", metadata}, {"192.0.0.192", metadata},

		// Reserved.
		{"192.0.0.1", notPublic}, {"192.0.2.1", notPublic}, {"198.51.100.1", notPublic}, {"203.0.113.1", notPublic},
		{"198.18.0.1", notPublic}, {"198.19.255.255", notPublic}, {"240.0.0.1", notPublic}, {"192.88.99.1", transition},
		{"2001:db8::1", notPublic}, {"3fff::1", notPublic}, {"100::1", notPublic}, {"5f00::1", notPublic},
		{"4000::1", notPublic}, {"1::1", notPublic}, {"2001:2::1", notPublic}, {"2001:10::1", notPublic},
		{"3ffe::1", transition}, {"fe00::1", notPublic},

		// IPv4 inside IPv6.
		{"::127.0.0.1", loopback}, {"::10.0.0.1", private}, {"::8.8.8.8", notPublic},
		{"::ffff:0:127.0.0.1", loopback}, {"::ffff:0:8.8.8.8", notPublic},
		{"2002:7f00:1::1", loopback}, {"2002:c0a8:101::1", private}, {"2002:a9fe:a9fe::", metadata},
		{"2002:808:808::1", transition},
		{"2001:0:808:808::80ff:fffe", loopback},  // Teredo, the client 127.0.0.1 inverted
		{"2001::f5ff:fffe", private},             // 10.0.0.1
		{"2001:0:808:808::f7f7:f7f7", notPublic}, // 8.8.8.8
		{"64:ff9b::127.0.0.1", loopback}, {"64:ff9b::10.1.2.3", private}, {"64:ff9b::0.0.0.0", manyHosts},
		{"64:ff9b::198.18.0.1", notPublic}, {"64:ff9b::168.63.129.16", metadata},
		{"64:ff9b:1::8.8.8.8", notPublic}, {"64:ff9b:1:7f00:1::", notPublic}, {"64:ff9b:1::10.0.0.1", notPublic},
		{"64:ff9b:2::8.8.8.8", notPublic},
	}
	for _, tt := range tests {
		a := netip.MustParseAddr(tt.addr)
		got, allowed := p.refuse(netip.AddrPortFrom(a, 443))
		if got != tt.want || allowed {
			t.Errorf("%s: got %q (allowed %v), want %q", tt.addr, got, allowed, tt.want)
		}
		if byAddr, _ := p.refuseAddr(a); (byAddr == "") != (tt.want == "") {
			t.Errorf("%s without a port: got %q, want %q", tt.addr, byAddr, tt.want)
		}
	}
	ports := []struct {
		to   string
		want reason
	}{
		{"8.8.8.8:25", closedPort}, {"[2606:4700::1111]:25", closedPort}, {"8.8.8.8:465", ""}, {"8.8.8.8:587", ""},
		{"8.8.8.8:0", badAddress}, {"1.0.0.1:443", ownAddress}, {"1.0.0.1:444", ""}, {"[64:ff9b::1.0.0.1]:443", ownAddress},
		{"[::ffff:1.0.0.1]:443", ownAddress}, {"8.8.8.8:8443", ""},
	}
	for _, tt := range ports {
		if got, _ := p.refuse(netip.MustParseAddrPort(tt.to)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.to, got, tt.want)
		}
	}
	if got, _ := p.refuse(netip.AddrPort{}); got != badAddress {
		t.Errorf("no address: got %q", got)
	}
}

func TestPolicyAllow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		cfg   Config
		to    string
		want  reason
		allow bool
	}{
		{"a site", Config{Allow: prefixes(t, "10.0.0.0/8")}, "10.1.2.3:443", "", true},
		{"spelled otherwise", Config{Allow: prefixes(t, "10.0.0.0/8")}, "[::ffff:10.1.2.3]:443", "", true},
		{"allowed in the other spelling", Config{Allow: prefixes(t, "::ffff:10.0.0.0/104")}, "10.1.2.3:443", "", true},
		{"unmasked", Config{Allow: prefixes(t, "10.7.7.7/8")}, "10.1.2.3:443", "", true},
		{"next to it", Config{Allow: prefixes(t, "10.1.0.0/16")}, "10.2.0.1:443", private, false},
		{"a public one", Config{Allow: prefixes(t, "8.8.8.0/24")}, "8.8.8.8:443", "", true},
		{"one's own interface in it", Config{Allow: prefixes(t, "10.0.0.0/8")}, "10.9.0.1:22", "", true},
		{"its broadcast", Config{Allow: prefixes(t, "10.0.0.0/8")}, "10.9.255.255:22", manyHosts, false},
		{"own listener in it", Config{Allow: prefixes(t, "10.0.0.0/8"), Own: []netip.AddrPort{
			netip.MustParseAddrPort("10.9.0.1:443")}}, "10.9.0.1:443", ownAddress, false},
		{"own port everywhere", Config{Allow: prefixes(t, "10.0.0.0/8"), Own: []netip.AddrPort{
			netip.MustParseAddrPort("[::]:443")}}, "10.9.0.1:443", ownAddress, false},
		{"own port on loopback", Config{Allow: prefixes(t, "127.0.0.0/8"), Own: []netip.AddrPort{
			netip.MustParseAddrPort("0.0.0.0:443")}}, "127.3.4.5:443", ownAddress, false},
		{"own port through NAT64", Config{Allow: prefixes(t, "10.0.0.0/8"), Own: []netip.AddrPort{
			netip.MustParseAddrPort("[::]:443")}}, "[64:ff9b::10.9.0.1]:443", ownAddress, false},
		{"own port elsewhere", Config{Allow: prefixes(t, "10.0.0.0/8"), Own: []netip.AddrPort{
			netip.MustParseAddrPort("[::]:443")}}, "10.9.0.2:443", "", true},
		{"metadata in a prefix", Config{Allow: prefixes(t, "169.254.0.0/16")}, "169.254.169.254:80", metadata, false},
		{"metadata in a prefix, v6", Config{Allow: prefixes(t, "fd00::/8")}, "[fd00:ec2::254]:80", metadata, false},
		{"metadata by everything", Config{Allow: prefixes(t, "0.0.0.0/0")}, "168.63.129.16:80", metadata, false},
		{"metadata by name", Config{Allow: prefixes(t, "169.254.169.254/32")}, "169.254.169.254:80", "", true},
		{"unspecified by everything", Config{Allow: prefixes(t, "0.0.0.0/0", "::/0")}, "0.0.0.0:80", manyHosts, false},
		{"unspecified by everything, v6", Config{Allow: prefixes(t, "0.0.0.0/0", "::/0")}, "[::]:80", manyHosts, false},
		{"multicast by everything", Config{Allow: prefixes(t, "::/0")}, "[ff02::1]:80", manyHosts, false},
		{"IPv4 inside IPv6", Config{Allow: prefixes(t, "::/0")}, "[::127.0.0.1]:80", loopback, false},
		{"6to4", Config{Allow: prefixes(t, "2002::/16")}, "[2002:7f00:1::]:80", loopback, false},
		{"6to4, public", Config{Allow: prefixes(t, "2002::/16")}, "[2002:808:808::]:80", "", true},
		{"NAT64 of an allowed one", Config{Allow: prefixes(t, "10.0.0.0/8")}, "[64:ff9b::10.1.1.1]:80", "", true},
		{"NAT64 of a refused one", Config{Allow: prefixes(t, "64:ff9b::/96")}, "[64:ff9b::10.1.1.1]:80", private, false},
		{"local NAT64", Config{NAT64: prefixes(t, "64:ff9b:1::/96")}, "[64:ff9b:1::8.8.8.8]:80", "", false},
		{"local NAT64 of a refused one", Config{NAT64: prefixes(t, "64:ff9b:1::/96")}, "[64:ff9b:1::127.0.0.1]:80",
			loopback, false},
		{"local NAT64, /48", Config{NAT64: prefixes(t, "64:ff9b:1::/48")}, "[64:ff9b:1:7f00:0:100::]:80", loopback, false},
		{"local NAT64, /48, public", Config{NAT64: prefixes(t, "64:ff9b:1::/48")}, "[64:ff9b:1:808:8:800::]:80", "", false},
		{"a provider's NAT64, /32", Config{NAT64: prefixes(t, "2a00:1::/32")}, "[2a00:1:a00:1::]:80", private, false},
		{"a provider's NAT64, /64", Config{NAT64: prefixes(t, "2a00:1::/64")}, "[2a00:1::a:0:100:0]:80", private, false},
		{"closed port", Config{Allow: prefixes(t, "10.0.0.0/8")}, "10.1.2.3:25", closedPort, false},
		{"no closed ports", Config{ClosedPorts: []uint16{}}, "8.8.8.8:25", "", false},
		{"other closed ports", Config{ClosedPorts: []uint16{25, 445}}, "8.8.8.8:445", closedPort, false},
	}
	for _, tt := range tests {
		got, allowed := testPolicy(t, tt.cfg).refuse(netip.MustParseAddrPort(tt.to))
		if got != tt.want || allowed != tt.allow {
			t.Errorf("%s: %s: got %q (allowed %v), want %q (%v)", tt.name, tt.to, got, allowed, tt.want, tt.allow)
		}
	}
}

// RFC 6052 §2.4 gives 192.0.2.33 in prefixes of every length.
func TestFromNAT64(t *testing.T) {
	t.Parallel()
	for prefix, addr := range map[string]string{
		"2001:db8::/32":             "2001:db8:c000:221::",
		"2001:db8:100::/40":         "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":         "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":     "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":     "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":     "2001:db8:122:344::192.0.2.33",
		"2001:db8:122:344:0:1::/96": "2001:db8:122:344:0:1:192.0.2.33",
	} {
		got := fromNAT64(netip.MustParseAddr(addr).As16(), netip.MustParsePrefix(prefix).Bits())
		if got != netip.MustParseAddr("192.0.2.33") {
			t.Errorf("%s: got %v", prefix, got)
		}
	}
}

// The list of local addresses is made anew, and an old one is kept if that fails.
func TestLocalAddrsAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testPolicy(t, Config{})
		var list []net.Addr
		var fail error
		p.listLocal = func() ([]net.Addr, error) { return list, fail }
		a := netip.MustParseAddr("93.184.216.99")
		want := func(why reason) {
			t.Helper()
			if got, _ := p.refuseAddr(a); got != why {
				t.Errorf("got %q, want %q", got, why)
			}
		}
		want("")
		list = []net.Addr{&net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		want("")
		time.Sleep(localAge)
		want(ownAddress)
		list, fail = nil, errors.New("no memory")
		time.Sleep(localAge)
		want(ownAddress)
		fail = nil
		time.Sleep(localAge)
		want("")
	})
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Allow: []netip.Prefix{{}}}, "allow"},
		{Config{NAT64: prefixes(t, "10.0.0.0/8")}, "nat64"},
		{Config{NAT64: prefixes(t, "2a00::/50")}, "nat64"},
		{Config{NAT64: prefixes(t, "2a00::/72")}, "nat64"},
		{Config{Own: []netip.AddrPort{{}}}, "own"},
		{Config{Own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}}, "own"},
		{Config{Source4: netip.MustParseAddr("::1")}, "source4"},
		{Config{Source6: netip.MustParseAddr("127.0.0.1")}, "source6"},
		{Config{SessionMappings: -1}, "session mappings"},
		{Config{MaxMappings: -1}, "max mappings"},
		{Config{MappingTimeout: -1}, "mapping timeout"},
		{Config{Upstream: "socks4://x:1"}, "upstream"},
	} {
		s, err := New(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), "egress: config: "+tt.want) {
			t.Errorf("want an error about %q, got %v", tt.want, err)
			if s != nil {
				s.Close()
			}
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for name, want := range map[string]bool{
		"example.com": true, "a.b.c.example": true, "xn--bcher-kva.example": true, "_dmarc.example.com": true, "localhost": true,
		"1.example": true, "1e100.net": true, long + ".com": true, "0x.example": true, "8.8.8.8.in-addr.arpa": true, "x0x1": true,
		"": false, ".": false, "a..b": false, ".a": false, "a.": false, long + "a.com": false,
		strings.Repeat(long+".", 4) + "com": false, "bücher.example": false, "a b.com": false, "a/b": false, "a\x00b": false,
		"UPPER.example": false, // Targets are in lower case
		// What inet_aton reads as an address:
		"127.1": false, "2130706433": false, "0x7f000001": false, "0177.0.0.1": false, "0x7f.1": false, "10.0x1": false,
		"127.0.0.1": false, "example.0x": false, "0": false, "1.2.3.4.5": false, "0xa9fea9fe": false,
	} {
		if got := validName(name); got != want {
			t.Errorf("validName(%q) = %v", name, got)
		}
	}
}

// Whatever is admitted, in whatever spelling, reaches nothing that its plain IPv4 spelling would not.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{"::1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2001:0:808:808::80ff:fffe",
		"8.8.8.8", "fe80::1", "2606:4700::1111"} {
		f.Add(netip.MustParseAddr(s).AsSlice(), uint16(443))
	}
	p := testPolicy(f, Config{NAT64: prefixes(f, "2a00:1::/48"), Allow: prefixes(f, "2002::/16", "::/8")})
	f.Fuzz(func(t *testing.T, raw []byte, port uint16) {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		ap := netip.AddrPortFrom(a, port)
		why, _ := p.refuse(ap)
		if plain, _ := p.refuse(netip.AddrPortFrom(a.Unmap(), port)); plain != why {
			t.Fatalf("%v: %q as it is, %q unmapped", a, why, plain)
		}
		if a.Is4() {
			mapped := netip.AddrFrom16(a.As16())
			if m, _ := p.refuse(netip.AddrPortFrom(mapped, port)); m != why {
				t.Fatalf("%v: %q plain, %q mapped", a, why, m)
			}
		}
		if why != "" || a.Unmap().Is4() {
			return
		}
		b := a.As16()
		inner := map[string]int{"64:ff9b::/96": 12, "::/96": 12, "::ffff:0:0:0/96": 12, "2002::/16": 2}
		for prefix, at := range inner {
			if netip.MustParsePrefix(prefix).Contains(a) {
				v4 := netip.AddrFrom4([4]byte(b[at:]))
				if w, _ := p.refuse(netip.AddrPortFrom(v4, port)); w != "" && binary.BigEndian.Uint32(b[at:]) > 1 {
					t.Fatalf("%v is admitted and carries %v, which is %q", a, v4, w)
				}
			}
		}
		if a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsPrivate() || a.IsLinkLocalUnicast() {
			if !netip.MustParsePrefix("::/8").Contains(a) {
				t.Fatalf("%v is admitted", a)
			}
		}
	})
}

func BenchmarkPolicy(b *testing.B) {
	p := testPolicy(b, Config{})
	for _, s := range []string{"8.8.8.8:443", "[2606:4700::1111]:443"} {
		to := netip.MustParseAddrPort(s)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if why, _ := p.refuse(to); why != "" {
					b.Fatal(why)
				}
			}
		})
	}
}
