// Package pf writes the rules of macOS's kill switch, and reads what pfctl(8) says of them. The rules are what pf(4) has under an
// anchor of ours, where the system's /etc/pf.conf lets anchors be (com.apple/*). They name sockets by their group, there being no
// marks: Godwit's own process takes a group that nobody has.
//
// It touches nothing, and is the same on every system.
package pf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
)

const (
	// label is on rules whose packets count as blocked.
	label = "godwit"
	// Group is the effective group of the process whose sockets may go out by the physical network, once they are bound to it.
	Group = 0x2677
)

// Desired is what the rules are to let out.
type Desired struct {
	Tun   string         // empty if there is none
	Addrs []netip.Prefix // the TUN's
	LAN   bool           // the local network, too
	Links []lan.Link     // that the machine is on, by LAN
}

// Rules is the anchor's text, as pfctl(8) reads it. The first rule that holds decides (quick), and none keeps a state: what is
// let out is let out by a rule that is there now.
func Rules(d Desired) string {
	var b strings.Builder
	rule := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	blocked := "label " + strconv.Quote(label)
	rule("pass quick on lo0 all no state")
	for _, p := range d.Addrs {
		a := p.Addr()
		if d.Tun == "" {
			rule("block drop in quick %s from any to %v", family(a), a)
			continue
		}
		// With the address: after a crash somebody else's interface may have the name.
		rule("pass out quick on %s %s from %v to any no state", d.Tun, family(a), a)
		// Whoever is not behind the TUN has no business with its addresses (CVE-2019-14899).
		rule("block drop in quick on ! %s %s from any to %v", d.Tun, family(a), a)
	}
	rule("pass out quick proto { tcp, udp } all user 0 group %d no state", Group)
	rule("pass out quick inet proto udp from any port 68 to any port 67 user 0 no state")
	rule("pass out quick inet6 proto udp from any port 546 to any port 547 user 0 no state")
	rule("pass out quick inet6 proto ipv6-icmp all icmp6-type { 133, 134, 135, 136 } no state")
	for _, p := range d.Addrs {
		rule("block drop out quick %s from any to %v %s", family(p.Addr()), p.Masked(), blocked)
	}
	if d.LAN {
		var ports []string
		for _, n := range lan.NamePorts {
			ports = append(ports, strconv.Itoa(int(n)))
		}
		rule("block drop out quick proto { tcp, udp } from any to any port { %s } %s", strings.Join(ports, ", "), blocked)
		for _, l := range d.Links {
			rule("pass out quick on %s %s from any to %v no state", l.Interface, family(l.Net.Addr()), l.Net)
		}
		for _, p := range lan.Everybody {
			rule("pass out quick %s from any to %v no state", family(p.Addr()), p)
		}
	}
	// The kernel's own, whoever says what.
	rule("block drop out quick inet proto igmp all")
	rule("block drop out quick inet6 proto ipv6-icmp all icmp6-type { 130, 131, 132, 143 }")
	rule("block drop out quick all %s", blocked)
	return b.String()
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

// HasAnchor reports whether the machine's main rules, by 'pfctl -s rules', come to our anchor.
func HasAnchor(rules string) bool {
	for line := range strings.Lines(rules) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "anchor" && strings.Trim(f[1], `"`) == "com.apple/*" {
			return true
		}
	}
	return false
}

// Blocked sums up what 'pfctl -s labels' says of our label: label, evaluations, packets, bytes, and more of the same.
func Blocked(labels string) (packets, bytes uint64, found bool) {
	for line := range strings.Lines(labels) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != label {
			continue
		}
		p, err1 := strconv.ParseUint(f[2], 10, 64)
		b, err2 := strconv.ParseUint(f[3], 10, 64)
		if err1 == nil && err2 == nil {
			packets, bytes, found = packets+p, bytes+b, true
		}
	}
	return packets, bytes, found
}

// Token is the reference that 'pfctl -E' gives, by which pf stays on; empty if it has given none.
func Token(text string) string {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "Token" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
