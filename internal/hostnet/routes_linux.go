package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
)

// The routing table that captured traffic uses, and no other:
//
//	<Addrs> dev <Tun>     whoever else claims these networks
//	throw <direct>        on to the rules after ours
//	default dev <Tun>     metric 10; the kernel removes it with the TUN
//	unreachable default   metric 4096; stays
const (
	table       = 26770
	metricOwn   = 1
	metricThrow = 2
	metricTun   = 10
	metricBlock = 4096
)

// The rules that lead there, in IPv4 and IPv6, between the kernel's own for local addresses (0) and for the main table
// (32766). Numbers are priorities; what goes to the end meets the machine's own rules, as if ours were not there.
const (
	ruleMarked = 2670 + iota // from marked sockets: to the end
	ruleDHCP                 // renewals, which go to one server: to the end
	ruleBack                 // Router: out of the TUN: to the end, where the others are
	ruleTun                  // LAN: the TUN's own networks: our table
	ruleNames                // LAN: DNS and its like: our table
	ruleLAN                  // LAN: main, but for routes wider than the local networks
	ruleAll                  // everything; without Router, everything of this machine's own: our table
	ruleEnd                  // no operation
)

var families = []int{unix.AF_INET, unix.AF_INET6}

// hasIPv6 reports whether this machine speaks IPv6 at all. If not, there is nothing to route.
func hasIPv6() bool {
	off, err := readSysctl("ipv6/conf/lo/disable_ipv6")
	return err == nil && off == "0"
}

// dump lists something of the kernel's, again if it was changed meanwhile.
func dump[T any](list func() (T, error)) (v T, err error) {
	for range 10 {
		if v, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

// setTun gives the TUN its addresses and its MTU and brings it up.
func setTun(d Desired) error {
	if d.Tun == "" {
		return nil
	}
	link, err := netlink.LinkByName(d.Tun)
	if err != nil {
		return err
	}
	if d.MTU > 0 && link.Attrs().MTU != d.MTU {
		if err := netlink.LinkSetMTU(link, d.MTU); err != nil {
			return fmt.Errorf("MTU: %w", err)
		}
	}
	// The kernel is not to talk into the TUN by itself: no link-local address, and so no soliciting of routers.
	if now, err := readSysctl("ipv6/conf/" + d.Tun + "/addr_gen_mode"); err == nil && now != "1" {
		_ = writeSysctl("ipv6/conf/"+d.Tun+"/addr_gen_mode", "1")
	}
	have, err := addresses(link)
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	for _, p := range carried(d) {
		if i := slices.Index(have, p); i >= 0 {
			have = slices.Delete(have, i, i+1)
			continue
		}
		if err := netlink.AddrAdd(link, addr(p)); err != nil {
			return fmt.Errorf("address: %w", err)
		}
	}
	for _, p := range have {
		if err := netlink.AddrDel(link, addr(p)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("address: %w", err)
		}
	}
	return netlink.LinkSetUp(link)
}

// carried are the TUN's addresses that it can have: none of IPv6 where that is off.
func carried(d Desired) []netip.Prefix {
	off, err := readSysctl("ipv6/conf/" + d.Tun + "/disable_ipv6")
	return slices.DeleteFunc(slices.Clone(d.Addrs), func(p netip.Prefix) bool { return is6(p) && (err != nil || off != "0") })
}

// clearTun takes its addresses from a TUN that may be there still.
func clearTun(name string, addrs []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	} else if err != nil {
		return err
	}
	have, err := addresses(link)
	if err != nil {
		return err
	}
	for _, p := range addrs {
		if slices.Contains(have, p) {
			if err := netlink.AddrDel(link, addr(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addresses are an interface's, without link-local ones.
func addresses(link netlink.Link) (have []netip.Prefix, err error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	for _, a := range list {
		if p, _ := netipx.FromStdIPNet(a.IPNet); !p.Addr().IsLinkLocalUnicast() {
			have = append(have, p)
		}
	}
	return have, err
}

// addr is an address that can be used at once, and brings no route to the main table.
func addr(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD}
}

// route is what makes a route of ours what it is.
type route struct {
	to     netip.Prefix
	typ    int
	link   int
	metric int
}

// setRoutes makes our table what is desired.
func setRoutes(d Desired) error {
	want := map[route]bool{}
	for _, family := range families {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if family == unix.AF_INET6 {
			if !hasIPv6() {
				continue
			}
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		want[route{to: all, typ: unix.RTN_UNREACHABLE, metric: metricBlock}] = true
		same := func(p netip.Prefix) bool { return p.Addr().BitLen() == all.Addr().BitLen() }
		if d.Tun != "" && slices.ContainsFunc(carried(d), same) {
			link, err := netlink.LinkByName(d.Tun)
			if err != nil {
				return err
			}
			want[route{to: all, typ: unix.RTN_UNICAST, link: link.Attrs().Index, metric: metricTun}] = true
			for _, p := range d.Addrs {
				if same(p) {
					want[route{to: p.Masked(), typ: unix.RTN_UNICAST, link: link.Attrs().Index, metric: metricOwn}] = true
				}
			}
		}
		for _, p := range d.Direct {
			if same(p) {
				want[route{to: p.Masked(), typ: unix.RTN_THROW, metric: metricThrow}] = true
			}
		}
	}
	have, err := ourRoutes()
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	// First what is new: in between there is one route too many, rather than none.
	for r := range want {
		if have[r] {
			continue
		}
		if err := h.RouteAdd(r.netlink()); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("add: %w", err)
		}
	}
	for r := range have {
		if want[r] {
			continue
		}
		if err := h.RouteDel(r.netlink()); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove: %w", err)
		}
	}
	return nil
}

func (r route) netlink() *netlink.Route {
	family := unix.AF_INET
	if is6(r.to) {
		family = unix.AF_INET6
	}
	return &netlink.Route{Family: family, Table: table, Dst: ipNet(r.to), Type: r.typ, LinkIndex: r.link, Priority: r.metric,
		Protocol: unix.RTPROT_STATIC}
}

// ourRoutes lists what is in our table.
func ourRoutes() (map[route]bool, error) {
	have := map[route]bool{}
	for _, family := range families {
		list, err := dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		})
		if family == unix.AF_INET6 && err != nil && !hasIPv6() {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, r := range list {
			ours := route{typ: r.Type, metric: r.Priority, link: r.LinkIndex}
			switch {
			case r.Dst != nil:
				ours.to, _ = netipx.FromStdIPNet(r.Dst)
			case family == unix.AF_INET:
				ours.to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			default:
				ours.to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			if ours.typ != unix.RTN_UNICAST {
				ours.link = 0 // the kernel says lo
			}
			have[ours] = true
		}
	}
	return have, nil
}

// removeRoutes empties our table.
func removeRoutes() (undone []string, err error) {
	have, err := ourRoutes()
	if err != nil || len(have) == 0 {
		return nil, err
	}
	for r := range have {
		if err := netlink.RouteDel(r.netlink()); err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("routes: %w", err)
		}
	}
	return []string{"removed " + count(len(have), "route") + " of Godwit's own table"}, nil
}

// rules are ours, those first that others lead to.
func rules(d Desired, family int) []*netlink.Rule {
	rule := func(priority int, change func(*netlink.Rule)) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority = family, priority
		// systemd-networkd removes rules that it does not know, but the kernel's.
		r.Protocol = unix.RTPROT_KERNEL
		change(r)
		return r
	}
	captured := func(r *netlink.Rule) {
		r.Table = table
		if !d.Router {
			r.IifName = "lo" // what this machine sends itself
		}
	}
	list := []*netlink.Rule{
		rule(ruleEnd, func(r *netlink.Rule) { r.Type = nl.FR_ACT_NOP }),
		rule(ruleMarked, func(r *netlink.Rule) { r.Mark, r.Goto = Mark, ruleEnd }),
	}
	if family == unix.AF_INET {
		list = append(list, rule(ruleDHCP, func(r *netlink.Rule) {
			r.IPProto, r.Sport, r.Dport = unix.IPPROTO_UDP, netlink.NewRulePortRange(68, 68), netlink.NewRulePortRange(67, 67)
			r.Goto = ruleEnd
		}))
	}
	if d.Router && d.Tun != "" {
		list = append(list, rule(ruleBack, func(r *netlink.Rule) { r.IifName, r.Goto = d.Tun, ruleEnd }))
	}
	if d.LAN {
		for _, p := range d.Addrs {
			if is6(p) == (family == unix.AF_INET6) {
				list = append(list, rule(ruleTun, func(r *netlink.Rule) {
					captured(r)
					r.Dst = ipNet(p.Masked())
				}))
			}
		}
		for _, n := range lan.NamePorts {
			list = append(list, rule(ruleNames, func(r *netlink.Rule) {
				captured(r)
				r.Dport = netlink.NewRulePortRange(n, n)
			}))
		}
		for _, p := range slices.Concat(lan.Private, lan.Everybody) {
			if is6(p) != (family == unix.AF_INET6) {
				continue
			}
			list = append(list, rule(ruleLAN, func(r *netlink.Rule) {
				captured(r)
				r.Table, r.Dst = unix.RT_TABLE_MAIN, ipNet(p)
				if slices.Contains(lan.Private, p) {
					r.SuppressPrefixlen = p.Bits() - 1
				}
			}))
		}
	}
	return append(list, rule(ruleAll, captured))
}

// setRules makes the rules what is desired.
func setRules(d Desired) error {
	for _, family := range families {
		if family == unix.AF_INET6 && !hasIPv6() {
			continue
		}
		have, err := ourRules(family)
		if err != nil {
			return err
		}
		want := map[string]bool{}
		for _, r := range rules(d, family) {
			want[ruleKey(r)] = true
			if have[ruleKey(r)] != nil {
				continue
			}
			if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("add: %w", err)
			}
		}
		for key, r := range have {
			if want[key] {
				continue
			}
			if err := netlink.RuleDel(r); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove: %w", err)
			}
		}
	}
	return nil
}

// ourRules are the rules of a family that have our priorities and look like ours.
func ourRules(family int) (map[string]*netlink.Rule, error) {
	list, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
	if err != nil {
		return nil, err
	}
	have := map[string]*netlink.Rule{}
	for _, r := range list {
		if r.Priority >= ruleMarked && r.Priority <= ruleEnd && r.Protocol == unix.RTPROT_KERNEL {
			r.Family = family
			have[ruleKey(&r)] = &r
		}
	}
	return have, nil
}

// ruleKey is what tells one rule of ours from another.
func ruleKey(r *netlink.Rule) string {
	ports := func(p *netlink.RulePortRange) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	to := "all"
	if r.Dst != nil {
		p, _ := netipx.FromStdIPNet(r.Dst)
		to = p.String()
	}
	return fmt.Sprint(r.Priority, " ", r.Mark, " ", to, " ", r.IifName, " ", r.IPProto, " ", ports(r.Sport), " ", ports(r.Dport),
		" ", r.Table, " ", r.Goto, " ", r.SuppressPrefixlen)
}

// removeRules removes ours.
func removeRules() (undone []string, err error) {
	n := 0
	for _, family := range families {
		have, err := ourRules(family)
		if family == unix.AF_INET6 && err != nil && !hasIPv6() {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("routing rules: %w", err)
		}
		for _, r := range have {
			if err := netlink.RuleDel(r); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("routing rules: %w", err)
			}
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	return []string{"removed " + count(n, "routing rule")}, nil
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

func ipNet(p netip.Prefix) *net.IPNet { return &net.IPNet{IP: p.Addr().AsSlice(), Mask: maskOf(p)} }

// hostOf is the network of a prefix's address alone.
func hostOf(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()) }

// maskOf is a prefix's netmask.
func maskOf(p netip.Prefix) []byte { return net.CIDRMask(p.Bits(), p.Addr().BitLen()) }
