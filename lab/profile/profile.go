// Package profile reads the national firewalls that the lab has, each a file: its story, its sources, its boxes in the
// order in which a packet from inside meets them, and what it must stop.
//
// Names in a profile end in .example or .test, addresses are those for documentation and for benchmarks: a profile is a
// description, never a block list.
package profile

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/rules"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Profile is one firewall.
type Profile struct {
	Name string `toml:"name"`
	// Story says in one paragraph what it is, for someone who reads the table.
	Story string `toml:"story"`
	// Sources are the measurements, or the news, that it follows.
	Sources []string `toml:"sources"`
	// MustStop are the positive controls that have to be blocked: a profile that stops nothing is no test. With LeastRate
	// degraded is enough.
	MustStop []string `toml:"must-stop"`
	// Seeds is how many runs of reach it takes until one of MustStop that passes in all of them is no luck; zero is one. It
	// is for profiles whose rules draw lots.
	Seeds int `toml:"seeds"`
	// LeastRate is for firewalls that slow down rather than block: a visit in reach is given a minute, and whose larger part
	// comes at fewer bits a second than this is degraded. Zero is any rate, within 20 s.
	LeastRate int `toml:"least-rate"`
	// Denies lists what of ordinary traffic it stops on purpose, for everybody: it does not count as hit by mistake. See
	// Deniable for the words.
	Denies []string `toml:"denies"`
	// Gateway says what the gateway's side has to meet it with.
	Gateway Gateway `toml:"gateway"`
	Client  Client  `toml:"client"`
	Groups  Groups  `toml:"groups"`
	// Hold is what happens to the connection that carries a download, again and again.
	Hold  Hold  `toml:"hold"`
	Boxes []Box `toml:"box"`
	// Probe, if there, has suspects probed.
	Probe *Probe `toml:"probe"`
	// Path, if not nil, is the way from the country's edge to the gateway and back, each direction; a scenario may set it.
	Path *linkmodel.Direction `toml:"-"`
}

// Gateway is what one operator has outside.
type Gateway struct {
	Addresses int `toml:"addresses"` // of the gateway, IPv4; each has its own port 443
	// Relays are places where the gateway's side has one, address[/name]: name is what its clients ask for.
	Relays  []string `toml:"relays"`
	Mirrors int      `toml:"mirrors"`
}

// Client says how the client's machine differs from an ordinary one of Linux.
type Client struct {
	// NoTimestamps leaves TCP's timestamps off, as Windows does: then most headers have no options.
	NoTimestamps bool `toml:"no-timestamps"`
}

// Groups are lists that several rules share.
type Groups struct {
	Nets  map[string][]netip.Prefix `toml:"nets"`
	Names map[string][]string       `toml:"names"`
}

// Hold is the profile's worst, done on purpose to the connection that carries the most: then is as in a rule.
type Hold struct {
	Box  string     `toml:"box"` // which does it
	Why  string     `toml:"why"` // which rule this stands for
	Then rules.Then `toml:"then"`
}

// Box is one box.
type Box struct {
	Name  string         `toml:"name"`
	Place firewall.Place `toml:"place"`
	// Drops names the in-path box that drops for one that sees a copy.
	Drops string `toml:"drops"`
	// Reassemble lists what is put together before rules read it: "ip", "tcp".
	Reassemble []string `toml:"reassemble"`
	// Exempt are networks, at either end, whose packets are not looked at: who has a licence.
	Exempt  rules.Nets `toml:"exempt"`
	UDPIdle rules.Dur  `toml:"udp-idle"` // zero is 60 s
	TCPIdle rules.Dur  `toml:"tcp-idle"` // zero is 10 min

	rules.Set
	named []firewall.Named
}

// Probe says how suspects are probed, and what a verdict leads to.
type Probe struct {
	// Delay bounds the waits between a suspicion and its probes: none comes before the least, and what the measured
	// distribution puts off for longer than the most comes then. Without it the least is 280 ms and the most 570 h.
	Delay rules.Span `toml:"delay"`
	// Box is where an unmasked server is blocked, in path.
	Box string `toml:"box"`
	// Block is how much of it: "endpoint" in the protocol that was probed, or "address" in all.
	Block firewall.Scope `toml:"block"`
	Way   firewall.Way   `toml:"way"`
	For   rules.Dur      `toml:"for"` // zero is for ever
}

//go:embed data/*.toml
var data embed.FS

// Names lists the profiles that are built in.
func Names() (names []string) {
	files, err := fs.Glob(data, "data/*.toml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".toml"))
	}
	return names
}

// Load reads a profile that is built in, or a file if the name has a "/" or ends in ".toml".
func Load(name string) (*Profile, error) {
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".toml") {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading a profile: %w", err)
		}
		return Parse(name, b)
	}
	b, err := data.ReadFile("data/" + name + ".toml")
	if err != nil {
		return nil, fmt.Errorf("there is no profile %q; there are %s, and a file's path works too", name, strings.Join(Names(), ", "))
	}
	return Parse(name+".toml", b)
}

// Error is a mistake in a profile.
type Error struct {
	File  string
	Line  int    // zero if it is about no line
	Field string // by its path, as "box[1].tls-name[0].then.for"
	Err   error
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Field != "" {
		s += ": field " + e.Field
	}
	return s + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Parse reads a profile. Errors name file, line and field.
func Parse(file string, b []byte) (*Profile, error) {
	p := &Profile{}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		var unknown *toml.StrictMissingError
		var bad *toml.DecodeError
		switch {
		case errors.As(err, &unknown) && len(unknown.Errors) > 0:
			bad = &unknown.Errors[0]
			line, _ := bad.Position()
			return nil, &Error{file, line, strings.Join(bad.Key(), "."), unknownField(bad.Key())}
		case errors.As(err, &bad):
			line, _ := bad.Position()
			return nil, &Error{file, line, strings.Join(bad.Key(), "."), err}
		}
		return nil, &Error{File: file, Err: err}
	}
	if at := p.check(); at != nil {
		return nil, &Error{file, lineOf(b, at.path), at.path, at.err}
	}
	return p, nil
}

func unknownField(key []string) error {
	if len(key) == 2 && key[0] == "box" {
		return fmt.Errorf("there is no such rule; there are %s", strings.Join(rules.Known(), ", "))
	}
	return errors.New("there is no such field")
}

// fault is a mistake and where it is.
type fault struct {
	path string
	err  error
}

func bad(path, format string, args ...any) *fault { return &fault{path, fmt.Errorf(format, args...)} }

// allowed are the addresses that belong to nobody: documentation (RFC 5737, 3849, 9637) and benchmarks (RFC 2544, 5180).
var allowed = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("2001:2::/48"),
}

func nobodys(n netip.Prefix) bool {
	return slices.ContainsFunc(allowed, func(a netip.Prefix) bool { return a.Bits() <= n.Bits() && a.Contains(n.Addr()) })
}

func (p *Profile) check() *fault {
	switch {
	case p.Name == "":
		return bad("name", "is missing")
	case strings.TrimSpace(p.Story) == "":
		return bad("story", "is missing: a paragraph that says what this firewall is")
	case len(p.Sources) == 0:
		return bad("sources", "is missing: whatever has no source is an invention")
	case len(p.Boxes) == 0:
		return bad("box", "is missing: a firewall has one at least")
	case p.Seeds < 0:
		return bad("seeds", "%d is no number of runs", p.Seeds)
	case p.LeastRate < 0:
		return bad("least-rate", "%d is no number of bits a second", p.LeastRate)
	case p.Gateway.Addresses < 1:
		return bad("gateway.addresses", "is %d: the gateway has one at least", p.Gateway.Addresses)
	}
	for i, r := range p.Gateway.Relays {
		addr, name, _ := strings.Cut(r, "/")
		a, err := netip.ParseAddr(addr)
		switch field := fmt.Sprintf("gateway.relays[%d]", i); {
		case err != nil:
			return bad(field, "%q is not address[/name]", r)
		case !nobodys(netip.PrefixFrom(a, a.BitLen())):
			return bad(field, "%s may belong to somebody: use addresses for documentation, as 203.0.113.81", a)
		case name != "" && !reserved(name):
			return bad(field, "%q may belong to somebody: end it in .example or .test", name)
		}
	}
	for i, d := range p.Denies {
		if !slices.Contains(Deniable(), d) {
			return bad(fmt.Sprintf("denies[%d]", i), "%q is no kind of traffic; there are %s", d, strings.Join(Deniable(), ", "))
		}
	}
	for name, nets := range p.Groups.Nets {
		for _, n := range nets {
			if !nobodys(n) {
				return bad("groups.nets."+name, "%s may belong to somebody: use addresses for documentation, as 198.51.100.0/24", n)
			}
		}
	}
	for name, list := range p.Groups.Names {
		for _, n := range list {
			if !reserved(n) {
				return bad("groups.names."+name, "%q may belong to somebody: end it in .example or .test", n)
			}
		}
	}
	groups := rules.Groups{Nets: p.Groups.Nets, Names: p.Groups.Names}
	for i := range p.Boxes {
		b := &p.Boxes[i]
		path := fmt.Sprintf("box[%d]", i)
		if b.Name == "" {
			return bad(path+".name", "is missing")
		}
		if p.box(b.Name) != b {
			return bad(path+".name", "there are two boxes %q", b.Name)
		}
		if drops := p.box(b.Drops); b.Drops != "" && (drops == nil || drops.Place != firewall.InPath || b.Place == firewall.InPath) {
			return bad(path+".drops", "an on-path box names an in-path box here; %q is none", b.Drops)
		}
		for _, r := range b.Reassemble {
			if r != "ip" && r != "tcp" {
				return bad(path+".reassemble", `%q is neither "ip" nor "tcp"`, r)
			}
		}
		if err := b.Exempt.Resolve(p.Groups.Nets); err != nil {
			return &fault{path + ".exempt", err}
		}
		for _, n := range b.Exempt {
			if !nobodys(n.Prefix) {
				return bad(path+".exempt", "%s may belong to somebody: use addresses for documentation, as 198.51.100.0/24", n)
			}
		}
		named, err := b.Named(b.Place, groups)
		var wrong *rules.RuleError
		if errors.As(err, &wrong) {
			path = fmt.Sprintf("%s.%s[%d]", path, wrong.Rule, wrong.Index)
			var field *rules.FieldError
			if errors.As(err, &field) {
				return &fault{path + "." + field.Field, field.Err}
			}
			return &fault{path, wrong.Err}
		}
		b.named = named
	}
	if p.Hold.Box != "" && p.box(p.Hold.Box) == nil {
		return bad("hold.box", "there is no box %q", p.Hold.Box)
	}
	if p.Probe != nil {
		if b := p.box(p.Probe.Box); b == nil || b.Place != firewall.InPath {
			return bad("probe.box", "wants an in-path box; %q is none", p.Probe.Box)
		}
		if s := p.Probe.Block; s != firewall.Endpoint && s != firewall.Address {
			return bad("probe.block", `a server is blocked by "endpoint" or "address", not by %q, whatever the client`, s)
		}
	}
	return nil
}

// reserved reports whether a pattern can only match names that nobody can register (RFC 2606); one that matches by a part
// of the name is a description too.
func reserved(pattern string) bool {
	return strings.HasSuffix(pattern, ".example") || strings.HasSuffix(pattern, ".test") || strings.HasPrefix(pattern, "*") && strings.HasSuffix(pattern, "*")
}

// Deniable lists the words of Profile.Denies. "foreign" is all that crosses the border, "udp" what of it is UDP and "ipv6"
// what of it is IPv6, which programs try first and do without; the others are a kind of traffic each.
func Deniable() []string {
	return []string{"foreign", "udp", "ipv6", "quic", "dns-udp", "dns-tcp", "ssh", "scp", "http", "https", "tls12", "browser", "tabs", "video", "download"}
}

func (p *Profile) box(name string) *Box {
	for i := range p.Boxes {
		if p.Boxes[i].Name == name {
			return &p.Boxes[i]
		}
	}
	return nil
}

// Add has the first box follow another rule, after those of the profile. It must come before Build.
func (p *Profile) Add(r firewall.Named) { p.Boxes[0].named = append(p.Boxes[0].named, r) }

// Firewall is a profile at work.
type Firewall struct {
	Profile *Profile
	Boxes   []*firewall.Box // in the profile's order
	// Strike, if the profile has a Hold, does it to the connection that carries the most at that moment.
	Strike *rules.Strike
}

// Build makes the boxes. A suspect of any box goes to prober, which may be nil; packets of the exempt addresses, as the
// prober's own, are not looked at. A Profile is built once: its rules keep what they have seen.
func (p *Profile) Build(seed uint64, prober func(firewall.Suspect), exempt ...netip.Prefix) (*Firewall, error) {
	w := &Firewall{Profile: p, Boxes: make([]*firewall.Box, len(p.Boxes))}
	// Those that drop first: others refer to them.
	order := make([]int, len(p.Boxes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(p.Boxes[a].Drops), len(p.Boxes[b].Drops)) })
	for _, i := range order {
		b := &p.Boxes[i]
		cfg := firewall.Config{Name: b.Name, Place: b.Place, Rules: slices.Clone(b.named), Prober: prober, Seed: seed + uint64(i),
			ReassembleTCP: slices.Contains(b.Reassemble, "tcp"), ReassembleIP: slices.Contains(b.Reassemble, "ip"),
			UDPIdle: time.Duration(b.UDPIdle), TCPIdle: time.Duration(b.TCPIdle), Exempt: slices.Clone(exempt)}
		for _, n := range b.Exempt {
			cfg.Exempt = append(cfg.Exempt, n.Prefix)
		}
		if b.Drops != "" {
			cfg.Drops = w.Box(b.Drops)
		}
		if b.Name == p.Hold.Box {
			w.Strike = &rules.Strike{Then: p.Hold.Then}
			cfg.Rules = append(cfg.Rules, firewall.Named{Name: "strike", Rule: w.Strike})
		}
		box, err := firewall.New(cfg)
		if err != nil {
			return nil, err
		}
		w.Boxes[i] = box
	}
	return w, nil
}

// Box finds a box by its name; nil if there is none.
func (w *Firewall) Box(name string) *firewall.Box {
	for i, b := range w.Profile.Boxes {
		if b.Name == name {
			return w.Boxes[i]
		}
	}
	return nil
}

// Events lists what fired in all boxes, in the order of time.
func (w *Firewall) Events() (all []firewall.Event) {
	for _, b := range w.Boxes {
		all = append(all, b.Events()...)
	}
	slices.SortStableFunc(all, func(a, b firewall.Event) int { return cmp.Compare(a.At, b.At) })
	return all
}

// Describe tells of each box, in a line, where it is and what it looks for, and of LeastRate.
func (p *Profile) Describe() (lines []string) {
	for _, b := range p.Boxes {
		var names []string
		for _, r := range b.named {
			if n := len(names); n > 0 && strings.HasPrefix(names[n-1], r.Name) {
				continue // the same again, with other parameters
			}
			names = append(names, r.Name)
		}
		line := fmt.Sprintf("box %s, %s: %s", b.Name, b.Place, strings.Join(names, ", "))
		if len(names) == 0 {
			line = fmt.Sprintf("box %s, %s: no rules of its own", b.Name, b.Place)
		}
		if b.Drops != "" {
			line += "; drops at " + b.Drops
		}
		lines = append(lines, line)
	}
	if p.LeastRate > 0 {
		lines = append(lines, fmt.Sprintf("below %d kbit/s what gets through is degraded", p.LeastRate/1000))
	}
	return lines
}
