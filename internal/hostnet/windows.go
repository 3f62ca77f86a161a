package hostnet

import (
	"fmt"
	"net/netip"
)

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
