package hostnet

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// halves are the routes that everything goes by: each narrower than a default route, so that one comes and goes unheard.
var halves = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/1"),
	netip.MustParsePrefix("128.0.0.0/1"),
	netip.MustParsePrefix("::/1"),
	netip.MustParsePrefix("8000::/1"),
}

// wanted are the halves of the families that are carried.
func wanted(d Desired) (list []netip.Prefix) {
	for _, p := range halves {
		if d.Tun != "" && slices.ContainsFunc(d.Addrs, func(a netip.Prefix) bool { return is6(a) == is6(p) }) {
			list = append(list, p)
		}
	}
	return list
}

// macInterface are the commands by which a utun gets its MTU and its addresses, and is up.
func macInterface(d Desired) (commands [][]string) {
	if d.MTU > 0 {
		commands = append(commands, []string{"ifconfig", d.Tun, "mtu", strconv.Itoa(d.MTU)})
	}
	for _, p := range d.Addrs {
		a := p.Addr().String()
		if is4(p) { // the far end of a point-to-point interface is itself
			commands = append(commands, []string{"ifconfig", d.Tun, "inet", p.String(), a, "alias"})
		} else {
			commands = append(commands, []string{"ifconfig", d.Tun, "inet6", a, "prefixlen", strconv.Itoa(p.Bits()), "alias"})
		}
	}
	return append(commands, []string{"ifconfig", d.Tun, "up"})
}

// macRoute is a command that adds or deletes a route by an interface.
func macRoute(verb string, p netip.Prefix, iface string) []string {
	family := "-inet"
	if is6(p) {
		family = "-inet6"
	}
	return []string{"route", "-q", "-n", verb, family, p.String(), "-interface", iface}
}

// scutilKey is where configd(8) finds resolvers of ours, which stay until they are removed, or the machine starts again.
const scutilKey = "State:/Network/Service/godwit/DNS"

// scutilSet is what scutil(8) is told: an empty domain to match is all names, and is not to be searched.
func scutilSet(dns []netip.Addr) string {
	var b strings.Builder
	fmt.Fprintln(&b, "d.init")
	fmt.Fprint(&b, "d.add ServerAddresses *")
	for _, a := range dns {
		fmt.Fprint(&b, " ", a)
	}
	fmt.Fprintf(&b, "\nd.add SupplementalMatchDomains * \"\"\nd.add SupplementalMatchDomainsNoSearch # 1\nset %s\nquit\n", scutilKey)
	return b.String()
}

// scutilHas reports whether 'show scutilKey' found these resolvers and no others.
func scutilHas(shown string, dns []netip.Addr) bool {
	var have []netip.Addr
	in := false
	for lines := bufio.NewScanner(strings.NewReader(shown)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 0:
		case f[0] == "ServerAddresses":
			in = true
		case in && f[0] == "}":
			in = false
		case in && len(f) == 3:
			if a, err := netip.ParseAddr(f[2]); err == nil {
				have = append(have, a)
			}
		}
	}
	return slices.Equal(have, dns)
}

// scutilResolvers are the resolvers that 'scutil --dns' shows of an interface, in order; of any, if it names none. Those of the
// second part are asked by interface, and so nobody's but the network's.
func scutilResolvers(shown, iface string) (found []netip.Addr) {
	var any []netip.Addr
	var of []netip.Addr
	add := func(to *[]netip.Addr, some []netip.Addr) {
		for _, a := range some {
			if !slices.Contains(*to, a) {
				*to = append(*to, a)
			}
		}
	}
	scoped := false
	for lines := bufio.NewScanner(strings.NewReader(shown + "\nresolver\n")); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 0:
		case f[0] == "DNS":
			scoped = scoped || strings.Contains(lines.Text(), "scoped")
			fallthrough
		case f[0] == "resolver":
			add(&any, of)
			of = nil
		case strings.HasPrefix(f[0], "nameserver[") && len(f) == 3:
			if a, err := netip.ParseAddr(f[2]); err == nil {
				of = append(of, a)
			}
		case f[0] == "if_index" && len(f) >= 4 && scoped && strings.Trim(f[3], "()") == iface:
			add(&found, of)
		}
	}
	if len(found) > 0 {
		return found
	}
	return any
}

// kernelRoute is a route as the kernel lists it.
type kernelRoute struct {
	to     netip.Prefix
	index  int  // of the interface
	scoped bool // only for sockets that are bound to the interface; each has a default route of this kind
}

// physical is the index of the interface of the machine's own default route: of IPv6, or if there is none of the other family,
// by whose interface the local network may still be reached; 0 if there is none.
func physical(routes []kernelRoute, six bool) int {
	for _, family := range []bool{six, !six} {
		for _, r := range routes {
			if r.to.Bits() == 0 && is6(r.to) == family && !r.scoped {
				return r.index
			}
		}
	}
	return 0
}

// halvesBy are those of our routes that go by an interface.
func halvesBy(routes []kernelRoute, index int) (have []netip.Prefix) {
	for _, r := range routes {
		if r.index == index && slices.Contains(halves, r.to) {
			have = append(have, r.to)
		}
	}
	return have
}
