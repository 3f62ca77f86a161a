package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
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

func (n *Nets) resolve(groups map[string][]netip.Prefix) error {
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
