package wfp

import (
	"net/netip"
	"testing"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
)

// decide is what the platform makes of the rules: the heaviest that holds.
func decide(rules []Rule, packet Rule) bool {
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
func TestRules(t *testing.T) {
	const tun, program = 7, `C:\godwit.exe`
	to := func(s string) netip.Prefix {
		a := netip.MustParseAddr(s)
		return netip.PrefixFrom(a, a.BitLen())
	}
	links := []lan.Link{{Interface: "Wi-Fi", Net: netip.MustParsePrefix("192.168.1.0/24")},
		{Interface: "Wi-Fi", Net: netip.MustParsePrefix("fe80::/10")}}
	for _, c := range []struct {
		what                string
		packet              Rule
		lan, shut, noTunnel bool // let out with LAN, without it, and without a tunnel and without it
	}{
		{"the world", Rule{Proto: protoTCP, RemotePort: 443, Remote: to("203.0.113.1")}, false, false, false},
		{"the world by IPv6", Rule{Six: true, Proto: protoTCP, RemotePort: 443, Remote: to("2001:db8::1")}, false, false, false},
		{"from the world", Rule{In: true, Proto: protoTCP, LocalPort: 22, Remote: to("203.0.113.1")}, false, false, false},
		{"the world through the tunnel", Rule{LUID: tun, Proto: protoTCP, RemotePort: 443, Remote: to("203.0.113.1")}, true, true, false},
		{"the gateway", Rule{Program: program, Proto: protoTCP, RemotePort: 443, Remote: to("203.0.113.1")}, true, true, true},
		{"this machine", Rule{Loopback: true, Proto: protoTCP, RemotePort: 1080, Remote: to("127.0.0.1")}, true, true, true},
		{"a lease", Rule{Proto: protoUDP, LocalPort: 68, RemotePort: 67, Remote: to("192.168.1.1")}, true, true, true},
		{"a neighbour", Rule{Six: true, Proto: protoICMPv6, LocalPort: 135, Remote: to("ff02::1:ff00:1")}, true, true, true},
		{"a ping", Rule{Six: true, Proto: protoICMPv6, LocalPort: 128, Remote: to("2001:db8::1")}, false, false, false},
		{"a printer", Rule{Proto: protoTCP, RemotePort: 631, Remote: to("192.168.1.9")}, true, false, false},
		{"another's network", Rule{Proto: protoTCP, RemotePort: 631, Remote: to("192.168.2.9")}, false, false, false},
		{"the network's resolver", Rule{Proto: protoUDP, RemotePort: 53, Remote: to("192.168.1.1")}, false, false, false},
		{"the tunnel's resolver", Rule{LUID: tun, Proto: protoUDP, RemotePort: 53, Remote: to("198.18.66.53")}, true, true, false},
		{"LLMNR", Rule{Six: true, Proto: protoUDP, RemotePort: 5355, Remote: to("ff02::1:3")}, false, false, false},
		{"mDNS", Rule{Proto: protoUDP, RemotePort: 5353, Remote: to("224.0.0.251")}, true, false, false},
	} {
		for _, v := range []struct {
			lan  bool
			tun  uint64
			want bool
		}{{true, tun, c.lan}, {false, tun, c.shut}, {false, 0, c.noTunnel}} {
			if got := decide(Rules(v.lan, links, v.tun, program), c.packet); got != v.want {
				t.Errorf("%s, with LAN %v and TUN %d: let out %v, and it should be %v", c.what, v.lan, v.tun, got, v.want)
			}
		}
	}
	seen := map[[16]byte]Rule{}
	for _, r := range Rules(true, links, tun, program) {
		if other, twice := seen[r.id()]; twice {
			t.Errorf("%+v and %+v are one", r, other)
		}
		seen[r.id()] = r
	}
}
