package hostnet

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
)

// wfpRule is a rule of Windows' kill switch, as data: what the Windows Filtering Platform is asked where a socket connects, or
// first sends or receives. All that is named must hold. Of several rules the heaviest decides.
type wfpRule struct {
	Name   string
	Weight uint64
	Permit bool

	In  bool // where something comes in; else where it goes out
	Six bool

	Loopback              bool
	LUID                  uint64 // by this interface
	Program               string // the file of the program whose socket it is
	Proto                 uint8
	LocalPort, RemotePort uint16       // also the type and code of ICMP
	Remote                netip.Prefix // the other end's
}

// The weights. Each time the whole of our rules is changed, what blocks everything is there first and goes last.
const (
	wfpEverything = 1
	wfpLocal      = 2
	wfpNames      = 3
	wfpOurs       = 4
)

const (
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// wfpRules are all there are to be. links are the networks that the machine is on, by LAN; tun is the TUN's LUID, 0 if there is
// none, and program is our own file.
func wfpRules(d Desired, links []onLink, tun uint64, program string) (rules []wfpRule) {
	both := func(r wfpRule) { // outwards and inwards
		r.In = false
		rules = append(rules, r)
		r.In = true
		rules = append(rules, r)
	}
	for _, six := range []bool{false, true} {
		both(wfpRule{Name: "everything else", Weight: wfpEverything, Six: six})
		ours := wfpRule{Weight: wfpOurs, Permit: true, Six: six}
		permit := func(name string, change func(*wfpRule)) {
			r := ours
			r.Name = name
			change(&r)
			both(r)
		}
		permit("in this machine", func(r *wfpRule) { r.Loopback = true })
		permit("Godwit's own", func(r *wfpRule) { r.Program = program })
		if tun != 0 {
			permit("the tunnel", func(r *wfpRule) { r.LUID = tun })
		}
		dhcp := [2]uint16{68, 67}
		if six {
			dhcp = [2]uint16{546, 547}
		}
		permit("DHCP", func(r *wfpRule) { r.Proto, r.LocalPort, r.RemotePort = protoUDP, dhcp[0], dhcp[1] })
		if six {
			for t := uint16(133); t <= 136; t++ {
				permit("neighbour discovery", func(r *wfpRule) { r.Proto, r.LocalPort = protoICMPv6, t })
			}
		}
		if !d.LAN {
			continue
		}
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, n := range namePorts {
				rules = append(rules, wfpRule{Name: "questions for names", Weight: wfpNames, Six: six, Proto: proto, RemotePort: n})
			}
		}
		near := append([]netip.Prefix(nil), everybody...)
		for _, l := range links {
			near = append(near, l.net)
		}
		for _, p := range near {
			if is6(p) == six {
				both(wfpRule{Name: "the local network", Weight: wfpLocal, Permit: true, Six: six, Remote: p})
			}
		}
	}
	return rules
}

// id tells a rule from all others, and is the same each time: so the platform needs no telling which rules there are already.
func (r wfpRule) id() [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "godwit %+v", r))
	return [16]byte(sum[:16])
}

// windowsInterface are the commands by which the TUN gets its addresses, routes and resolvers. All go with it.
func windowsInterface(d Desired) (commands [][]string) {
	netsh := func(args ...string) { commands = append(commands, append([]string{"netsh", "interface"}, args...)) }
	for _, p := range d.Addrs {
		family, a := "ipv4", p.Addr().String()
		if is6(p) {
			family = "ipv6"
			// The machine is not to talk into the TUN by itself.
			netsh(family, "set", "interface", d.Tun, "metric=1", "dadtransmits=0", "routerdiscovery=disabled", "store=active")
		} else {
			netsh(family, "set", "interface", d.Tun, "metric=1", "dadtransmits=0", "store=active")
		}
		if d.MTU > 0 {
			netsh(family, "set", "subinterface", d.Tun, fmt.Sprintf("mtu=%d", d.MTU), "store=active")
		}
		netsh(family, "add", "address", d.Tun, fmt.Sprintf("%s/%d", a, p.Bits()), "store=active")
	}
	for _, p := range wanted(d) {
		family := "ipv4"
		if is6(p) {
			family = "ipv6"
		}
		netsh(family, "add", "route", p.String(), d.Tun, "metric=0", "store=active")
	}
	for i, a := range d.DNS {
		family := "ipv4"
		if a.Is6() {
			family = "ipv6"
		}
		netsh(family, "add", "dnsservers", d.Tun, a.String(), fmt.Sprintf("index=%d", i+1), "validate=no")
	}
	return commands
}

// firewallRule lets the tunnel's segments, of TCP's own two ends in this machine, past the firewall that Windows comes with.
const firewallRule = "Godwit"

func windowsFirewall(d Desired, program string) []string {
	own := ""
	for i, p := range d.Addrs {
		if i > 0 {
			own += ","
		}
		own += p.Addr().String()
	}
	return []string{"netsh", "advfirewall", "firewall", "add", "rule", "name=" + firewallRule, "dir=in", "action=allow", "profile=any",
		"protocol=TCP", "program=" + program, "localip=" + own}
}

// adapter is one of Windows' interfaces.
type adapter struct {
	name     string
	luid     uint64
	up       bool
	index    [2]uint32 // by IPv4, by IPv6
	metric   [2]uint32
	gateway  [2]bool // it has a default route
	resolver []netip.Addr
}

// outside is the adapter by which the machine reaches the world: of those that are up and have a router, of IPv6, or if there is
// none of the other family, the one with the lowest metric. The TUN has no router.
func outside(all []adapter, six bool) (adapter, bool) {
	family := 0
	if six {
		family = 1
	}
	for _, f := range []int{family, 1 - family} {
		best := -1
		for i, a := range all {
			if a.up && a.gateway[f] && (best < 0 || a.metric[f] < all[best].metric[f]) {
				best = i
			}
		}
		if best >= 0 {
			return all[best], true
		}
	}
	return adapter{}, false
}
