package rules

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Dur is a duration in a profile, as "180s".
type Dur time.Duration

// UnmarshalText reads one.
func (d *Dur) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = errors.New("a duration cannot be negative")
	}
	*d = Dur(v)
	return err
}

// Span is a duration drawn anew each time, as "80ms..190ms"; one alone is always the same.
type Span struct{ Low, High time.Duration }

// UnmarshalText reads one.
func (s *Span) UnmarshalText(b []byte) error {
	low, high, two := strings.Cut(string(b), "..")
	if !two {
		high = low
	}
	var l, h Dur
	if err := errors.Join(l.UnmarshalText([]byte(low)), h.UnmarshalText([]byte(high))); err != nil {
		return err
	}
	if l > h {
		return fmt.Errorf("%s is more than %s", low, high)
	}
	s.Low, s.High = time.Duration(l), time.Duration(h)
	return nil
}

// Lag is a Span, or a distribution as it was measured: the least, tenth, half, nine tenths and the most, as
// "60ms/80ms/110ms/190ms/7.5s".
type Lag struct {
	Span
	middle [3]time.Duration // zero if all between is as likely
}

// UnmarshalText reads one.
func (l *Lag) UnmarshalText(b []byte) error {
	*l = Lag{}
	points := strings.Split(string(b), "/")
	var d [5]Dur
	switch len(points) {
	case 1:
		return l.Span.UnmarshalText(b)
	case len(d):
	default:
		return fmt.Errorf("%d durations: a distribution is the least, tenth, half, nine tenths and the most", len(points))
	}
	for i := range d {
		if err := d[i].UnmarshalText([]byte(points[i])); err != nil {
			return err
		}
		if i > 0 && d[i] < d[i-1] {
			return fmt.Errorf("%s is more than %s", points[i-1], points[i])
		}
	}
	l.Low, l.High = time.Duration(d[0]), time.Duration(d[4])
	l.middle = [3]time.Duration{time.Duration(d[1]), time.Duration(d[2]), time.Duration(d[3])}
	return nil
}

// draw takes one. Between two points of a distribution the logarithm is as likely anywhere: such times have long tails.
func (l *Lag) draw(f *firewall.Flow) time.Duration {
	if l.middle == [3]time.Duration{} {
		return f.Between(l.Low, l.High)
	}
	at := [...]time.Duration{l.Low, l.middle[0], l.middle[1], l.middle[2], l.High}
	part := [...]float64{0, 0.1, 0.5, 0.9, 1}
	u := float64(f.IntN(1<<20)) / (1 << 20)
	i := 0
	for u >= part[i+1] {
		i++
	}
	u = (u - part[i]) / (part[i+1] - part[i])
	low, high := float64(max(at[i], 1)), float64(max(at[i+1], 1))
	return time.Duration(low * math.Pow(high/low, u))
}

// Nets is a list of prefixes and groups of them. An empty list is everywhere, where a rule does not say otherwise.
type Nets []Net

// Net is a prefix, or "@" and the name of a group.
type Net struct {
	netip.Prefix
	group string
}

// UnmarshalText reads one.
func (n *Net) UnmarshalText(b []byte) (err error) {
	if group, ok := strings.CutPrefix(string(b), "@"); ok {
		n.group = group
		return nil
	}
	n.Prefix, err = netip.ParsePrefix(string(b))
	return err
}

// Resolve puts the groups' members in.
func (n *Nets) Resolve(groups map[string][]netip.Prefix) error {
	var all Nets
	for _, net := range *n {
		if net.group == "" {
			all = append(all, net)
			continue
		}
		members, ok := groups[net.group]
		if !ok {
			return fmt.Errorf("there is no group %q of nets: the profile's table groups.nets names them", net.group)
		}
		for _, m := range members {
			all = append(all, Net{Prefix: m})
		}
	}
	*n = all
	return nil
}

// Has reports whether a is in one of them.
func (n Nets) Has(a netip.Addr) bool {
	for _, net := range n {
		if net.Contains(a) {
			return true
		}
	}
	return false
}

// Covers is Has, but an empty list covers everything.
func (n Nets) Covers(a netip.Addr) bool { return len(n) == 0 || n.Has(a) }

// nets makes a list of prefixes that the program knows.
func nets(prefixes ...string) (n Nets) {
	for _, p := range prefixes {
		n = append(n, Net{Prefix: netip.MustParsePrefix(p)})
	}
	return n
}

// Names is a list of patterns and groups of them: "banned.example" is that name and all below it, "=banned.example" that
// name alone, "*.banned.example" only what is below, "*ban*" every name with that in it. An empty list matches no name.
type Names []string

func (n *Names) resolve(groups map[string][]string) error {
	var all Names
	for _, name := range *n {
		group, ok := strings.CutPrefix(name, "@")
		if !ok {
			all = append(all, strings.ToLower(name))
			continue
		}
		members, ok := groups[group]
		if !ok {
			return fmt.Errorf("there is no group %q of names: the profile's table groups.names has them", group)
		}
		all = append(all, members...)
	}
	*n = all
	return nil
}

// Match returns the pattern that a name matches, empty if none does.
func (n Names) Match(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return ""
	}
	for _, p := range n {
		var hit bool
		switch {
		case strings.HasPrefix(p, "="):
			hit = name == p[1:]
		case len(p) > 2 && strings.HasPrefix(p, "*") && strings.HasSuffix(p, "*"):
			hit = strings.Contains(name, p[1:len(p)-1])
		case strings.HasPrefix(p, "*"):
			hit = strings.HasSuffix(name, p[1:])
		default:
			hit = name == p || strings.HasSuffix(name, "."+p)
		}
		if hit {
			return p
		}
	}
	return ""
}

// chance checks a probability; zero stands for its default.
func chance(field string, p float64) error {
	if !(p >= 0 && p <= 1) {
		return wrong(field, "%v is not between 0 and 1", p)
	}
	return nil
}

// or is a parameter with a default: zero is that.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// ports says which number is none of a port.
func ports(field string, list []int) error {
	for _, p := range list {
		if p < 1 || p > 65535 {
			return wrong(field, "%d is no port", p)
		}
	}
	return nil
}

// portIn reports whether a port is in a list; every one is in an empty list.
func portIn(ports []int, port uint16) bool {
	for _, p := range ports {
		if p == int(port) {
			return true
		}
	}
	return len(ports) == 0
}
