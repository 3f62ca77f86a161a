// Package rules decides which traffic goes through the tunnel, which directly, and which nowhere: by domain, address,
// port, user and control group. Rules are read from a file, and lists of domains and addresses from others that a user supplies.
//
//	default = "tunnel"                      what no rule says; absent is tunnel
//
//	[[rule]]                                the first one that matches counts
//	name    = "my bank"                     for people
//	domains = ["bank.example", "=x.example"]  a domain and all below it; with = that name alone
//	cidrs   = ["192.0.2.0/24", "2001:db8::1"]
//	files   = ["country.txt"]               lists, see list
//	ports   = ["443", "8000-8010"]
//	users   = ["1000", "alice"]             by number or name
//	cgroups = ["/user.slice/app.slice"]     a control group (cgroup2) and all below it
//	action  = "direct"                      or tunnel, or block
//
// A rule matches if the destination is in any of its domains, cidrs and files (where it has any), the port in its ports, the
// user among its users and the control group in its cgroups.
package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Action is what becomes of a flow.
type Action uint8

// The actions.
const (
	Tunnel Action = iota
	Direct
	Block
)

var actions = []string{"tunnel", "direct", "block"}

func (a Action) String() string { return actions[a] }

// MarshalText is String.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what String says.
func (a *Action) UnmarshalText(b []byte) error {
	i := slices.Index(actions, string(b))
	if i < 0 {
		return fmt.Errorf("%.40q is not tunnel, direct or block", b)
	}
	*a = Action(i)
	return nil
}

// Flow is what is to be decided on. What is not known is left out.
type Flow struct {
	Name    string     // in lower case, without the last dot
	Addr    netip.Addr // never one that stands for a name
	Port    uint16
	UID     uint32
	KnowUID bool
	Cgroup  string // from the root of cgroup2, as "/user.slice"
}

// Rule is one rule.
type Rule struct {
	Name   string
	Number int // from 1
	Line   int // in its file
	Action Action

	to      *set // nil is everywhere
	ports   []portRange
	users   []uint32
	cgroups []string
}

// String is how people know it.
func (r *Rule) String() string {
	if r.Name != "" {
		return fmt.Sprintf("rule %d (%q)", r.Number, r.Name)
	}
	return fmt.Sprintf("rule %d", r.Number)
}

// Set is all rules of a file. It is never altered. The zero Set sends everything through the tunnel.
type Set struct {
	Default Action
	Rules   []*Rule
	Entries int // domains and prefixes in all of them
	// Owners says that rules name users or control groups, so that it matters whose a flow is.
	Owners bool

	files []string // what origins count in
}

// Decision is what becomes of a flow, and why.
type Decision struct {
	Action Action
	Rule   *Rule // nil: none matched
	// Unsure is the first rule before that which might have matched if more were known: an address, a user or a control group;
	// nil if there is none.
	Unsure *Rule

	set   *Set
	entry entry
}

// entry is what of a rule a destination matched.
type entry struct {
	domain string       // or
	prefix netip.Prefix // or neither
	exact  bool
	from   origin
}

// Match decides. It is safe for concurrent use, and allocates nothing.
func (s *Set) Match(f Flow) Decision {
	d := Decision{Action: s.Default, set: s}
	addr := f.Addr.Unmap()
	for _, r := range s.Rules {
		if len(r.ports) > 0 && !slices.ContainsFunc(r.ports, func(p portRange) bool { return p.first <= f.Port && f.Port <= p.last }) {
			continue
		}
		unsure := false
		if len(r.users) > 0 {
			if unsure = !f.KnowUID; !unsure && !slices.Contains(r.users, f.UID) {
				continue
			}
		}
		if len(r.cgroups) > 0 {
			if f.Cgroup == "" {
				unsure = true
			} else if !slices.ContainsFunc(r.cgroups, func(g string) bool { return inCgroup(f.Cgroup, g) }) {
				continue
			}
		}
		var e entry
		if r.to != nil {
			var ok bool
			if e, ok = r.to.match(f.Name, addr); !ok {
				if addr.IsValid() || len(r.to.prefixes) == 0 {
					continue
				}
				unsure = true
			}
		}
		if unsure {
			if d.Unsure == nil {
				d.Unsure = r
			}
			continue
		}
		d.Action, d.Rule, d.entry = r.Action, r, e
		return d
	}
	return d
}

// Why explains the decision in a sentence or two.
func (d Decision) Why() string {
	var b strings.Builder
	switch {
	case d.Rule == nil && len(d.set.Rules) == 0:
		b.WriteString("there are no rules")
	case d.Rule == nil:
		b.WriteString("no rule matches, so the default counts")
	default:
		fmt.Fprintf(&b, "%v", d.Rule)
		e := d.entry
		where := "its own lists"
		if f, line := e.from.place(); f > 0 {
			where = fmt.Sprintf("line %d of %s", line, d.set.files[f])
		}
		switch {
		case e.domain != "" && e.exact:
			fmt.Fprintf(&b, " matches the name %s alone (%s)", e.domain, where)
		case e.domain != "":
			fmt.Fprintf(&b, " matches %s and what is below it (%s)", e.domain, where)
		case e.prefix.IsValid():
			fmt.Fprintf(&b, " matches %v (%s)", e.prefix, where)
		default:
			b.WriteString(" matches all destinations")
		}
		if len(d.Rule.ports) > 0 {
			b.WriteString(", at ports " + join(d.Rule.ports))
		}
		if len(d.Rule.users) > 0 {
			b.WriteString(", of users " + join(d.Rule.users))
		}
		if len(d.Rule.cgroups) > 0 {
			b.WriteString(", in control groups " + join(d.Rule.cgroups))
		}
	}
	if u := d.Unsure; u != nil {
		fmt.Fprintf(&b, "; %v comes first and may match once the destination's address, the user and the control group are known", u)
	}
	return b.String()
}

func join[T any](all []T) string {
	var s []string
	for _, v := range all {
		s = append(s, fmt.Sprint(v))
	}
	return strings.Join(s, ", ")
}

type portRange struct{ first, last uint16 }

func (p portRange) String() string {
	if p.first == p.last {
		return strconv.Itoa(int(p.first))
	}
	return fmt.Sprintf("%d-%d", p.first, p.last)
}

// UnmarshalText reads "443" or "8000-8010".
func (p *portRange) UnmarshalText(b []byte) error {
	first, last, isRange := strings.Cut(string(b), "-")
	if !isRange {
		last = first
	}
	lo, err := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || lo == 0 || hi < lo {
		return fmt.Errorf("%.40q is neither a port, such as 443, nor a range, such as 8000-8010", b)
	}
	*p = portRange{uint16(lo), uint16(hi)}
	return nil
}

// ParseFlow reads a destination as people write it: a name or an address, with or without a port.
func ParseFlow(s string) (Flow, error) {
	var f Flow
	host := s
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err != nil {
		if h, port, ok := cutLast(s, ":"); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return f, fmt.Errorf("%.60q: %.20q is not a port from 1 to 65535", s, port)
			}
			host, f.Port = h, uint16(n)
		}
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil && a.Zone() == "" {
		f.Addr = a.Unmap()
		return f, nil
	}
	d, err := parseDomain(host)
	if err != nil || d.exact {
		return f, fmt.Errorf("%.60q is neither a name nor an address, with or without a port", s)
	}
	f.Name = d.domain
	return f, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// inCgroup reports whether a control group is another one or below it.
func inCgroup(group, top string) bool {
	rest, ok := strings.CutPrefix(group, strings.TrimSuffix(top, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// ParseCgroup reads a control group as a rule names it.
func ParseCgroup(s string) (string, error) {
	var c cgroup
	err := c.UnmarshalText([]byte(s))
	return c.path, err
}

// ParseUser reads a user as a rule names them.
func ParseUser(s string) (uint32, error) {
	var u uid
	err := u.UnmarshalText([]byte(s))
	return uint32(u), err
}
