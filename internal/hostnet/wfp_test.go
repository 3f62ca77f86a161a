package hostnet

import (
	"net/netip"
	"strings"
	"testing"
)

// decide is what the platform makes of the rules: the heaviest that holds.
func decide(rules []wfpRule, packet wfpRule) bool {
	permit, weight := true, uint64(0)
	for _, r := range rules {
		switch {
		case r.In != packet.In || r.Six != packet.Six:
		case r.Loopback && !packet.Loopback, r.LUID != 0 && r.LUID != packet.LUID, r.Program != "" && r.Program != packet.Program:
		case r.Proto != 0 && r.Proto != packet.Proto:
		case r.LocalPort != 0 && r.LocalPort != packet.LocalPort, r.RemotePort != 0 && r.RemotePort != packet.RemotePort:
		case r.Remote.IsValid() && !r.Remote.Contains(packet.Remote.Addr()):
		case r.Weight > weight:
			permit, weight = r.Permit, r.Weight
		}
	}
	return permit
}

// What Windows' firewall lets out, and what not.
func TestWFPRules(t *testing.T) {
	const tun, program = 7, `C:\godwit.exe`
	to := func(s string) netip.Prefix {
		a := netip.MustParseAddr(s)
		return netip.PrefixFrom(a, a.BitLen())
	}
	links := []onLink{{"Wi-Fi", netip.MustParsePrefix("192.168.1.0/24")}, {"Wi-Fi", netip.MustParsePrefix("fe80::/10")}}
	for _, c := range []struct {
		what                string
		packet              wfpRule
		lan, shut, noTunnel bool // let out with LAN, without it, and without a tunnel and without it
	}{
		{"the world", wfpRule{Proto: protoTCP, RemotePort: 443, Remote: to("203.0.113.1")}, false, false, false},
		{"the world by IPv6", wfpRule{Six: true, Proto: protoTCP, RemotePort: 443, Remote: to("2001:db8::1")}, false, false, false},
		{"from the world", wfpRule{In: true, Proto: protoTCP, LocalPort: 22, Remote: to("203.0.113.1")}, false, false, false},
		{"the world through the tunnel", wfpRule{LUID: tun, Proto: protoTCP, RemotePort: 443, Remote: to("203.0.113.1")}, true, true, false},
		{"the gateway", wfpRule{Program: program, Proto: protoTCP, RemotePort: 443, Remote: to("203.0.113.1")}, true, true, true},
		{"this machine", wfpRule{Loopback: true, Proto: protoTCP, RemotePort: 1080, Remote: to("127.0.0.1")}, true, true, true},
		{"a lease", wfpRule{Proto: protoUDP, LocalPort: 68, RemotePort: 67, Remote: to("192.168.1.1")}, true, true, true},
		{"a neighbour", wfpRule{Six: true, Proto: protoICMPv6, LocalPort: 135, Remote: to("ff02::1:ff00:1")}, true, true, true},
		{"a ping", wfpRule{Six: true, Proto: protoICMPv6, LocalPort: 128, Remote: to("2001:db8::1")}, false, false, false},
		{"a printer", wfpRule{Proto: protoTCP, RemotePort: 631, Remote: to("192.168.1.9")}, true, false, false},
		{"another's network", wfpRule{Proto: protoTCP, RemotePort: 631, Remote: to("192.168.2.9")}, false, false, false},
		{"the network's resolver", wfpRule{Proto: protoUDP, RemotePort: 53, Remote: to("192.168.1.1")}, false, false, false},
		{"the tunnel's resolver", wfpRule{LUID: tun, Proto: protoUDP, RemotePort: 53, Remote: to("198.18.66.53")}, true, true, false},
		{"LLMNR", wfpRule{Six: true, Proto: protoUDP, RemotePort: 5355, Remote: to("ff02::1:3")}, false, false, false},
		{"mDNS", wfpRule{Proto: protoUDP, RemotePort: 5353, Remote: to("224.0.0.251")}, true, false, false},
	} {
		for _, v := range []struct {
			lan  bool
			tun  uint64
			want bool
		}{{true, tun, c.lan}, {false, tun, c.shut}, {false, 0, c.noTunnel}} {
			d := Desired{Tun: "Godwit", Addrs: macDesired.Addrs, LAN: v.lan}
			if got := decide(wfpRules(d, links, v.tun, program), c.packet); got != v.want {
				t.Errorf("%s, with LAN %v and TUN %d: let out %v, and it should be %v", c.what, v.lan, v.tun, got, v.want)
			}
		}
	}
	seen := map[[16]byte]wfpRule{}
	for _, r := range wfpRules(Desired{Addrs: macDesired.Addrs, LAN: true}, links, tun, program) {
		if other, twice := seen[r.id()]; twice {
			t.Errorf("%+v and %+v are one", r, other)
		}
		seen[r.id()] = r
	}
}

func TestWindowsCommands(t *testing.T) {
	d := macDesired
	d.Tun = "Godwit"
	want := `netsh interface ipv4 set interface Godwit metric=1 dadtransmits=0 store=active
netsh interface ipv4 set subinterface Godwit mtu=1500 store=active
netsh interface ipv4 add address Godwit 198.18.66.1/24 store=active
netsh interface ipv6 set interface Godwit metric=1 dadtransmits=0 routerdiscovery=disabled store=active
netsh interface ipv6 set subinterface Godwit mtu=1500 store=active
netsh interface ipv6 add address Godwit fd67:6f64:7769:7400::1/64 store=active
netsh interface ipv4 add route 0.0.0.0/1 Godwit metric=0 store=active
netsh interface ipv4 add route 128.0.0.0/1 Godwit metric=0 store=active
netsh interface ipv6 add route ::/1 Godwit metric=0 store=active
netsh interface ipv6 add route 8000::/1 Godwit metric=0 store=active
netsh interface ipv4 add dnsservers Godwit 198.18.66.53 index=1 validate=no
`
	var got strings.Builder
	for _, c := range windowsInterface(d) {
		got.WriteString(strings.Join(c, " ") + "\n")
	}
	if got.String() != want {
		t.Errorf("commands:\n%s", &got)
	}
}

func TestOutside(t *testing.T) {
	all := []adapter{
		{name: "Godwit", up: true, metric: [2]uint32{1, 1}},
		{name: "Ethernet", gateway: [2]bool{true, true}, metric: [2]uint32{5, 5}}, // unplugged
		{name: "Wi-Fi", up: true, gateway: [2]bool{true, false}, metric: [2]uint32{40, 40},
			luid: 9, index: [2]uint32{14, 14}, resolver: []netip.Addr{netip.MustParseAddr("192.168.1.1")}},
		{name: "Mobile", up: true, gateway: [2]bool{true, false}, metric: [2]uint32{55, 55}},
	}
	for _, six := range []bool{false, true} {
		if a, ok := outside(all, six); !ok || a.name != "Wi-Fi" {
			t.Errorf("IPv6 %v: %q, %v", six, a.name, ok)
		}
	}
	all[3].gateway[1] = true
	if a, ok := outside(all, true); !ok || a.name != "Mobile" {
		t.Errorf("by IPv6: %q, %v", a.name, ok)
	}
	if a, ok := outside(all[:2], false); ok {
		t.Errorf("without a network: %q", a.name)
	}
	const want = `netsh advfirewall firewall add rule name=Godwit dir=in action=allow profile=any protocol=TCP program=C:\godwit.exe ` +
		`localip=198.18.66.1,fd67:6f64:7769:7400::1`
	if got := strings.Join(windowsFirewall(macDesired, `C:\godwit.exe`), " "); got != want {
		t.Errorf("command: %s", got)
	}
}
