package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
	"github.com/godwit-vpn/godwit/internal/hostnet/sysctl"
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
			if !sysctl.HasIPv6() {
				continue
			}
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		want[route{to: all, typ: unix.RTN_UNREACHABLE, metric: metricBlock}] = true
		same := func(p netip.Prefix) bool { return p.Addr().BitLen() == all.Addr().BitLen() }
		if d.Tun != "" && slices.ContainsFunc(iface.Carried(d.Tun, d.Addrs), same) {
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
	return &netlink.Route{Family: family, Table: table, Dst: netipx.PrefixIPNet(r.to), Type: r.typ, LinkIndex: r.link, Priority: r.metric,
		Protocol: unix.RTPROT_STATIC}
}

// ourRoutes lists what is in our table.
func ourRoutes() (map[route]bool, error) {
	have := map[route]bool{}
	for _, family := range families {
		list, err := iface.Dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		})
		if family == unix.AF_INET6 && err != nil && !sysctl.HasIPv6() {
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
					r.Dst = netipx.PrefixIPNet(p.Masked())
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
				r.Table, r.Dst = unix.RT_TABLE_MAIN, netipx.PrefixIPNet(p)
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
		if family == unix.AF_INET6 && !sysctl.HasIPv6() {
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
	list, err := iface.Dump(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
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
		if family == unix.AF_INET6 && err != nil && !sysctl.HasIPv6() {
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
