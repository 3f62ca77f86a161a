package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/netns"
)

var (
	home4, home6   = netip.MustParsePrefix("192.168.20.1/24"), netip.MustParsePrefix("fd20::1/64")
	guest4, guest6 = netip.MustParsePrefix("192.168.20.2/24"), netip.MustParsePrefix("fd20::2/64")
)

// newGuest is a machine behind the client, which forwards for it.
func (w *world) newGuest(t *testing.T) *netns.Host {
	t.Helper()
	g, err := netns.NewHost("guest")
	must(t, err)
	t.Cleanup(func() { g.Close() })
	must(t, g.EnableIPv6(), netns.Connect(g, "eth0", w.client, "home0"))
	must(t, w.client.AddAddr("home0", home4, ""), w.client.AddAddr("home0", home6, ""))
	must(t, g.AddAddr("eth0", guest4, ""), g.AddAddr("eth0", guest6, ""))
	must(t, g.AddDefaultRoute("eth0", home4.Addr()), g.AddDefaultRoute("eth0", home6.Addr()))
	w.home, err = capture.Start(w.client, "home0", 0)
	must(t, err)
	t.Cleanup(func() { w.home.Stop() })
	for _, p := range []netip.Prefix{guest4.Masked(), guest6.Masked()} {
		via := client4.Addr()
		if is6(p) {
			via = client6.Addr()
		}
		must(t, w.router.AddRoute(netns.Route{To: p, Dev: "eth0", Via: via}))
	}
	return g
}

// tryGuest has the guest make attempts, and returns what the router saw.
func (w *world) tryGuest(t *testing.T, g *netns.Host, list []attempt) []string {
	t.Helper()
	before := len(w.seen.Frames())
	must(t, g.Do(func() error {
		for _, a := range list {
			_ = a.do()
		}
		return nil
	}))
	// When the last one has come to the client, so have the others, and what it lets out waits for the same neighbour as
	// what is marked.
	for _, p := range []netip.Prefix{home4, home6} {
		last := fmt.Sprint("last ", time.Now().UnixNano())
		must(t, g.Do(func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(p.Addr(), 9).String())
			if err != nil {
				return err
			}
			_, err = c.Write([]byte(last))
			return errors.Join(err, c.Close())
		}))
		await(t, w.home, last)
	}
	w.marked(t)
	return withoutGroups(w.strays(w.seen.Frames()[before:]))
}

func guestAttempts() []attempt {
	return slices.DeleteFunc(attempts("eth0"), func(a attempt) bool {
		return strings.Contains(a.name, "bound to the address") || strings.HasPrefix(a.name, "mDNS") || a.name == "LLMNR" ||
			a.name == "SSDP" || a.name == "broadcast" || strings.HasSuffix(a.name, "bound") || strings.Contains(a.name, "bound to the interface")
	})
}

func TestRouter(t *testing.T) {
	w := newWorld(t)
	g := w.newGuest(t)
	must(t, w.client.Forward())
	list := guestAttempts()
	seen := w.tryGuest(t, g, list)
	for _, a := range list {
		if !slices.Contains(seen, a.seen) {
			t.Fatalf("before Set: %s: no %s was seen: %v", a.name, a.seen, seen)
		}
	}
	h := w.open(t)
	u := newTun(t, w.client, "tun7")

	// Without Router they are let be, but nothing goes from the TUN to them or to the Internet.
	w.set(t, h, carrying)
	if seen := w.tryGuest(t, g, list[:1]); !slices.Contains(seen, list[0].seen) {
		t.Errorf("without Router: no %s was seen: %v", list[0].seen, seen)
	}
	must(t, w.client.Sysctl("net.ipv4.conf.all.rp_filter", "0"), w.client.Sysctl("net.ipv4.conf.tun7.rp_filter", "0"))
	before := len(w.seen.Frames())
	u.f.Write(udp4(netip.MustParseAddrPort("100.64.9.77:1"), netip.AddrPortFrom(site4, 1010)))
	w.marked(t)
	if strays := w.strays(w.seen.Frames()[before:]); len(strays) > 0 {
		t.Errorf("from the TUN to the Internet: %v", strays)
	}
	must(t, w.client.Sysctl("net.ipv4.conf.all.rp_filter", "1"))

	// A DHCP server has more to say of private networks.
	w.ip(t, func(l netlink.Link) error {
		return errors.Join(
			netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: router4.Addr().AsSlice(),
				Dst: netipx.PrefixIPNet(netip.PrefixFrom(private4, 32))}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: router6.Addr().AsSlice(),
				Dst: netipx.PrefixIPNet(netip.PrefixFrom(private6, 128))}))
	})

	for _, lan := range []bool{true, false} {
		router := carrying
		router.Router, router.LAN = true, lan
		w.set(t, h, router)
		strays := w.tryGuest(t, g, list)
		if want := []string{"UDP 192.168.7.1:1003"}; lan && !slices.Equal(strays, want) || !lan && len(strays) > 0 {
			t.Errorf("with Router, local network %v: left the machine: %v", lan, strays)
		}
		for _, to := range []netip.Addr{site4, site6} {
			p := u.read(t, "guest's query to "+to.String(), udpTo(port53(to)))
			if from := source(p); from != tun4.Addr() && from != tun6.Addr() {
				t.Errorf("the guest's packet came from %v", from)
			}
		}
	}
	router := carrying
	router.Router, router.LAN = true, true
	w.set(t, h, router)

	// There and back.
	var c net.Conn
	must(t, g.Do(func() (err error) {
		c, err = net.Dial("udp", netip.AddrPortFrom(site4, 1011).String())
		return err
	}))
	defer c.Close()
	_, err := c.Write([]byte("question"))
	must(t, err)
	p := u.read(t, "guest's packet", udpTo(netip.AddrPortFrom(site4, 1011)))
	u.f.Write(udp4(netip.AddrPortFrom(site4, 1011), netip.AddrPortFrom(source(p), binary.BigEndian.Uint16(p[20:]))))
	b := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(b); err != nil || string(b[:n]) != "answer" {
		t.Errorf("the guest's answer: %q, %v", b[:n], err)
	}

	// A SYN offers no more than the tunnel carries.
	for _, a := range []netip.Addr{site4, site6} {
		must(t, g.Do(tcp(netip.AddrPortFrom(a, 80))))
		header := 20 + 20*(a.BitLen()/128)
		syn := u.read(t, "guest's SYN", func(p []byte) bool { return len(p) > header+24 && p[header+13] == 2 && p[header+3] == 80 })
		if got, want := int(binary.BigEndian.Uint16(syn[header+22:])), carrying.MTU-header-20; got != want {
			t.Errorf("SYN to %v offers segments of %d, want %d", a, got, want)
		}
	}

	// The tunnel ends.
	u.close()
	list = slices.DeleteFunc(list, func(a attempt) bool { return a.name == "a neighbour" })
	if strays := w.tryGuest(t, g, list); len(strays) > 0 {
		t.Errorf("without the TUN: left the machine: %v", strays)
	}
	w.set(t, h, Desired{Router: true, LAN: true})
	if strays := w.tryGuest(t, g, list); len(strays) > 0 {
		t.Errorf("without a tunnel: left the machine: %v", strays)
	}
	must(t, w.client.Do(h.Close))
}

// TestDirect shows that what is direct goes out and comes back, and nothing beside it; with as many networks as a country
// has.
func TestDirect(t *testing.T) {
	w := newWorld(t)
	for _, a := range []netip.Addr{site4, site6} {
		c, err := w.router.ListenUDP(netip.AddrPortFrom(a, 1020))
		must(t, err)
		go w.echo(c)
		t.Cleanup(func() { c.Close() })
	}
	h := w.open(t)
	u := newTun(t, w.client, "tun7")
	direct := carrying
	direct.Direct = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/25"), netip.MustParsePrefix("203.0.113.4/30"),
		netip.MustParsePrefix("3fff:5::/32")}
	for i := range 2000 {
		p, err := netip.AddrFrom4([4]byte{100, byte(i >> 7), byte(i << 1), 0}).Prefix(24)
		must(t, err)
		direct.Direct = append(direct.Direct, p)
	}
	w.set(t, h, direct)
	for _, a := range []netip.Addr{site4, site6} {
		var c net.Conn
		must(t, w.client.Do(func() (err error) {
			c, err = net.Dial("udp", netip.AddrPortFrom(a, 1020).String())
			return err
		}))
		defer c.Close()
		text := "direct to " + a.String()
		_, err := c.Write([]byte(text))
		must(t, err)
		b := make([]byte, 100)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(b); err != nil || string(b[:n]) != text {
			t.Errorf("%v: %q, %v", a, b[:n], err)
		}
		await(t, w.seen, text)
	}
	gateway := []attempt{{"", udp(netip.AddrPortFrom(gateway4, strayPort), netip.Addr{}), ""},
		{"", udp(netip.AddrPortFrom(gateway6, strayPort), netip.Addr{}), ""}}
	if strays := w.try(t, gateway); len(strays) > 0 {
		t.Errorf("left the machine: %v", strays)
	}
	// A private network that is not on a link is behind the tunnel.
	direct.LAN = true
	w.set(t, h, direct)
	must(t, w.client.Do(udp(netip.AddrPortFrom(private4, 1040), netip.Addr{})), w.client.Do(udp(netip.AddrPortFrom(private6, 1040), netip.Addr{})))
	u.read(t, "packet to a private network", udpTo(netip.AddrPortFrom(private4, 1040)))
	u.read(t, "packet to a private network", udpTo(netip.AddrPortFrom(private6, 1040)))
	w.set(t, h, carrying)
	if strays := w.try(t, attempts("eth0")); len(strays) > 0 {
		t.Errorf("no longer direct: left the machine: %v", strays)
	}
	must(t, w.client.Do(h.Close))
}

func source(p []byte) netip.Addr {
	if p[0]>>4 == 4 {
		a, _ := netip.AddrFromSlice(p[12:16])
		return a
	}
	a, _ := netip.AddrFromSlice(p[8:24])
	return a
}

// udp4 is a packet that says "answer".
func udp4(from, to netip.AddrPort) []byte {
	const text = "answer"
	p := make([]byte, 28, 28+len(text))
	p[0], p[3], p[8], p[9] = 0x45, byte(len(p)+len(text)), 64, unix.IPPROTO_UDP
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(p[20:], from.Port())
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint16(p[24:], uint16(len(text)+8))
	return append(p, text...)
}
