package topology

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Parse reads a description; name is the file's, for errors, which say in which line and field they are.
func Parse(name, text string) (*Description, error) {
	d := new(Description)
	c := newChecker()
	seeded := false
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if err := d.line(c, &seeded, fields); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return d, nil
}

func (d *Description) line(c *checker, seeded *bool, fields []string) error {
	kind, rest := fields[0], fields[1:]
	if len(rest) == 0 {
		return fmt.Errorf("%s: nothing follows it", kind)
	}
	switch kind {
	case "seed":
		seed, err := strconv.ParseUint(rest[0], 10, 64)
		if err != nil || len(rest) > 1 {
			return fmt.Errorf("seed %q: not one number", strings.Join(rest, " "))
		}
		if *seeded {
			return fmt.Errorf("seed %d: given already", seed)
		}
		d.Seed, *seeded = seed, true
		return nil
	case "inside", "outside":
		h, err := parseHost(rest[0], rest[1:])
		if err == nil {
			err = c.host(h)
		}
		if kind == "inside" {
			d.Inside = append(d.Inside, h)
		} else {
			d.Outside = append(d.Outside, h)
		}
		return err
	case "firewall":
		f, err := parseFirewall(rest[0], rest[1:])
		if err == nil {
			err = c.firewall(f)
		}
		d.Firewalls = append(d.Firewalls, f)
		return err
	}
	return fmt.Errorf("kind %q: use inside, firewall, outside or seed", kind)
}

func parseHost(name string, fields []string) (Host, error) {
	h := Host{Name: name}
	for _, f := range fields {
		a, err := netip.ParseAddr(f)
		if err != nil {
			return h, fmt.Errorf("host %s: address %q: not an IPv4 or IPv6 address", name, f)
		}
		h.Addrs = append(h.Addrs, a)
	}
	return h, nil
}

func parseFirewall(name string, fields []string) (Firewall, error) {
	fw := Firewall{Name: name}
	given := make(map[string]bool)
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return fw, fmt.Errorf("firewall %s: %q: not a field=value", name, f)
		}
		way, field, one := strings.Cut(key, ".")
		if !one {
			way, field = "", key
		}
		set := linkField(field)
		if set == nil || one && way != "forward" && way != "backward" {
			return fw, fmt.Errorf("firewall %s: field %q: unknown: use %s, or forward. or backward. before one", name, key, linkFieldNames())
		}
		for _, dir := range []struct {
			way string
			to  *linkmodel.Direction
		}{{"forward", &fw.Forward}, {"backward", &fw.Backward}} {
			if one && way != dir.way {
				continue
			}
			if given[dir.way+"."+field] {
				return fw, fmt.Errorf("firewall %s: field %s: given already", name, key)
			}
			given[dir.way+"."+field] = true
			if err := set.parse(dir.to, value); err != nil {
				return fw, fmt.Errorf("firewall %s: field %s: %w", name, key, err)
			}
		}
	}
	return fw, nil
}

// A field of linkmodel.Direction, as text; print gives "" for its zero value.
type field struct {
	name  string
	parse func(*linkmodel.Direction, string) error
	print func(linkmodel.Direction) string
}

var linkFields = []field{
	duration("delay", func(d *linkmodel.Direction) *time.Duration { return &d.Delay }),
	duration("jitter", func(d *linkmodel.Direction) *time.Duration { return &d.Jitter }),
	rate("rate", func(d *linkmodel.Direction) *int64 { return &d.Rate }),
	duration("queue_time", func(d *linkmodel.Direction) *time.Duration { return &d.QueueTime }),
	count("queue_bytes", func(d *linkmodel.Direction) *int64 { return &d.QueueBytes }),
	rate("police_rate", func(d *linkmodel.Direction) *int64 { return &d.PoliceRate }),
	count("police_burst", func(d *linkmodel.Direction) *int64 { return &d.PoliceBurst }),
	count("mtu", func(d *linkmodel.Direction) *int { return &d.MTU }),
	probability("loss", func(d *linkmodel.Direction) *float64 { return &d.Loss }),
	probability("burst_start", func(d *linkmodel.Direction) *float64 { return &d.BurstStart }),
	probability("burst_end", func(d *linkmodel.Direction) *float64 { return &d.BurstEnd }),
	probability("burst_loss", func(d *linkmodel.Direction) *float64 { return &d.BurstLoss }),
	probability("duplicate", func(d *linkmodel.Direction) *float64 { return &d.Duplicate }),
	probability("reorder", func(d *linkmodel.Direction) *float64 { return &d.Reorder }),
	duration("reorder_by", func(d *linkmodel.Direction) *time.Duration { return &d.ReorderBy }),
}

func linkField(name string) *field {
	for i := range linkFields {
		if linkFields[i].name == name {
			return &linkFields[i]
		}
	}
	return nil
}

func linkFieldNames() string {
	var names []string
	for _, f := range linkFields {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// textField makes a field out of how its type is read and written.
func textField[T comparable](name string, at func(*linkmodel.Direction) *T, what string, read func(string) (T, error), write func(T) string) field {
	return field{
		name: name,
		parse: func(d *linkmodel.Direction, text string) error {
			v, err := read(text)
			if err != nil {
				return fmt.Errorf("%q is not %s", text, what)
			}
			*at(d) = v
			return nil
		},
		print: func(d linkmodel.Direction) string {
			var zero T
			if *at(&d) == zero {
				return ""
			}
			return write(*at(&d))
		},
	}
}

func duration(name string, at func(*linkmodel.Direction) *time.Duration) field {
	return textField(name, at, "a time such as 20ms", time.ParseDuration, time.Duration.String)
}

func count[T int | int64](name string, at func(*linkmodel.Direction) *T) field {
	read := func(text string) (T, error) {
		n, err := strconv.ParseInt(text, 10, 32)
		return T(n), err
	}
	return textField(name, at, "a number of bytes", read, func(n T) string { return strconv.FormatInt(int64(n), 10) })
}

var rateUnits = []struct {
	name  string
	times int64
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}}

func rate(name string, at func(*linkmodel.Direction) *int64) field {
	read := func(text string) (int64, error) {
		times := int64(1)
		for _, u := range rateUnits {
			if number, ok := strings.CutSuffix(text, u.name); ok {
				text, times = number, u.times
				break
			}
		}
		n, err := strconv.ParseInt(text, 10, 32)
		return n * times, err
	}
	write := func(n int64) string {
		for _, u := range rateUnits {
			if n%u.times == 0 {
				return strconv.FormatInt(n/u.times, 10) + u.name
			}
		}
		return strconv.FormatInt(n, 10)
	}
	return textField(name, at, "a rate such as 20mbit", read, write)
}

func probability(name string, at func(*linkmodel.Direction) *float64) field {
	read := func(text string) (float64, error) {
		number, percent := strings.CutSuffix(text, "%")
		p, err := strconv.ParseFloat(number, 64)
		if percent {
			p /= 100
		}
		return p, err
	}
	write := func(p float64) string { return strconv.FormatFloat(p, 'g', -1, 64) }
	return textField(name, at, "a probability such as 1%", read, write)
}

// String is the description as Parse reads it.
func (d *Description) String() string {
	var b strings.Builder
	if d.Seed != 0 {
		fmt.Fprintf(&b, "seed %d\n", d.Seed)
	}
	hosts := func(kind string, hosts []Host) {
		for _, h := range hosts {
			fmt.Fprintf(&b, "%s %s", kind, h.Name)
			for _, a := range h.Addrs {
				fmt.Fprintf(&b, " %s", a)
			}
			b.WriteString("\n")
		}
	}
	hosts("inside", d.Inside)
	for _, f := range d.Firewalls {
		fmt.Fprintf(&b, "firewall %s%s\n", f.Name, f.link())
	}
	hosts("outside", d.Outside)
	return b.String()
}

// link is the firewall's fields, a space before each.
func (f Firewall) link() string {
	var b strings.Builder
	for _, field := range linkFields {
		fw, bw := field.print(f.Forward), field.print(f.Backward)
		if fw == bw && fw != "" {
			fmt.Fprintf(&b, " %s=%s", field.name, fw)
			continue
		}
		if fw != "" {
			fmt.Fprintf(&b, " forward.%s=%s", field.name, fw)
		}
		if bw != "" {
			fmt.Fprintf(&b, " backward.%s=%s", field.name, bw)
		}
	}
	return b.String()
}
