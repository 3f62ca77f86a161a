// Package doctor finds out what a network does to its users: which of a firewall's known deeds it sees from here, how sure
// that is, and what to do. Probes collect Observations, in which no address and no name is; Judge, which touches nothing,
// names what they show; where they show too little it says so, for a wrong name is worse than none.
//
//	access key ── places, names ── probes ──► Observations ──► Judge ──► Findings ──► a person, or Avoid for a dialer
//
// The far end is the gateway's own website, which anybody may visit: no knock is made, and nothing of the access key but
// what is in any connection to it is shown to anybody. One connection is made at a time, with a distance from the last.
//
//	addresses ─ resolvers ─ TCP ─ TLS without a name ─ HTTP ─ more than a page ─ UDP, QUIC ─ names ─ DNS ─ bursts ─ how long
//
// What could get later connections cut comes late: names, which a firewall may look for, after what it has no reason to
// mind; bursts, if wanted at all, at the end.
//
//	doctor.go    what is examined, and in which order
//	neutral.go   what nobody has a reason to mind
//	named.go     what says a name
//	bursts.go    many at once, and how long what was blocked stays so
//	tls.go plain.go quic.go dns.go net.go   how each is said
//	observe.go   what was seen
//	judge*.go    what it means, a file for each protocol
//	words.go     how a person is told
//	steer.go     how a dialer is
package doctor

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
)

// Config says what is examined, and how. Zero values mean what each field says.
type Config struct {
	// Endpoints are the gateway's, and Pins its keys': see accesskey.Key. Required.
	Endpoints []accesskey.Endpoint
	Pins      [][32]byte
	// Names are more names to be said to the gateway and to resolvers, besides those in Endpoints: to see whether this network
	// minds them. Whoever watches sees them said.
	Names []string
	// Resolvers are asked too, besides the System ones.
	Resolvers []netip.AddrPort
	System    []netip.AddrPort
	// Burst is how many connections are opened at nearly the same time at last; zero is none, for a firewall that minds that
	// may then swallow all new ones for minutes.
	Burst int
	// Patience is how long is waited in all for what was blocked to be let go; zero is 20 s.
	Patience time.Duration
	// PlainPort is where the website's redirect is; zero is 80.
	PlainPort uint16

	// Dial connects; nil is this machine's own network. Addresses counts its addresses; nil likewise. Now is its clock.
	Dial      Dial
	Addresses func() int
	Now       func() time.Time
	// Lookup finds a name's addresses; nil is the system's.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Doing, unless nil, is told what is under way.
	Doing func(what string)
}

// Report is what was found.
type Report struct {
	Findings []Finding `json:"findings"`
	// Untold are questions that could not be answered, and why.
	Untold   []string      `json:"untold"`
	Evidence *Observations `json:"evidence"`

	addrs []netip.Addr
	names []string
	ends  []end
}

// end is an endpoint of the access key: its places, as far as they were examined, and -1 for each that was not.
type end struct {
	accesskey.Endpoint
	places []int
}

// Who says which addresses and names the report's numbers stand for: for its user's own eyes.
func (r *Report) Who() (places []netip.Addr, names []string) { return r.addrs, r.names }

// Healthy reports whether nothing was found.
func (r *Report) Healthy() bool { return len(r.Findings) == 0 }

// Limits.
const (
	mostPlaces = 4
	mostNames  = 4 // but for none
	patience   = 20 * time.Second
)

// probes is one examination.
type probes struct {
	cfg       Config
	began     time.Time
	space     spacer
	seen      Observations
	addrs     []netip.Addr // of places
	names     []string     // the first is none
	ends      []end
	madeUp    string // see MadeUp
	resolvers []netip.AddrPort
	told      int // of resolvers
	classes   classes
	waits     []wait
	blocked   map[int]bool // places that let nothing in any more after a hello
}

// Run examines. Its only error is ctx's.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Dial == nil {
		cfg.Dial = systemDial
	}
	if cfg.Addresses == nil {
		cfg.Addresses = addresses
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}
	}
	if cfg.Patience == 0 {
		cfg.Patience = patience
	}
	if cfg.PlainPort == 0 {
		cfg.PlainPort = 80
	}
	p := &probes{cfg: cfg, began: time.Now(), names: []string{""}, madeUp: nobodys(), blocked: map[int]bool{}}
	p.seen.Names = []Name{{}}
	for _, r := range slices.Concat(cfg.Resolvers, cfg.System) {
		if !slices.Contains(p.resolvers, r) {
			p.resolvers = append(p.resolvers, r)
		}
	}
	p.told = min(len(cfg.Resolvers), len(p.resolvers))
	for _, step := range []struct {
		what string
		do   func(context.Context)
	}{
		{"looking at this machine's network", p.network},
		{"connecting to the gateway's addresses", p.reach},
		{"visiting the website, with several kinds of TLS", p.neutral},
		{"asking without TLS", p.neutralPlain},
		{"reading more than a page", p.neutralBulk},
		{"asking by UDP and QUIC", p.udp},
		{"saying names", p.named},
		{"asking resolvers", p.questions},
		{"opening several connections at once", p.bursts},
		{"waiting for what was blocked to be let go", p.patience},
	} {
		if cfg.Doing != nil {
			cfg.Doing(step.what)
		}
		if step.do(ctx); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	p.seen.Seconds = time.Since(p.began).Round(100 * time.Millisecond).Seconds()
	r := &Report{Evidence: &p.seen, addrs: p.addrs, names: p.names, ends: p.ends}
	r.Findings, r.Untold = Judge(&p.seen)
	return r, nil
}

// addresses counts those that this machine could reach others with.
func addresses() (n int) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return 0
	}
	for _, a := range all {
		if prefix, ok := a.(*net.IPNet); ok && prefix.IP.IsGlobalUnicast() {
			n++
		}
	}
	return n
}

// says is a name by its number.
func (p *probes) says(name int) string {
	if name == MadeUp {
		return p.madeUp
	}
	return p.names[name]
}

// name numbers a name.
func (p *probes) name(name string, own bool) int {
	if name == "" {
		return 0
	}
	i := slices.Index(p.names, name)
	if i < 0 && len(p.names) <= mostNames {
		i = len(p.names)
		p.names = append(p.names, name)
		p.seen.Names = append(p.seen.Names, Name{Own: own})
	}
	return max(i, 0)
}

// place numbers an address.
func (p *probes) place(a netip.Addr) int {
	i := slices.Index(p.addrs, a)
	if i < 0 && len(p.addrs) < mostPlaces {
		i = len(p.addrs)
		p.addrs = append(p.addrs, a)
		p.seen.Places = append(p.seen.Places, Place{IPv6: a.Is6(), Ports: []uint16{}, QUIC: []uint16{}})
	}
	return i
}

// promise notes that there is QUIC.
func (p *probes) promise(place int, port uint16) {
	if at := &p.seen.Places[place]; !slices.Contains(at.QUIC, port) {
		at.QUIC = append(at.QUIC, port)
	}
}

// network looks at what there is to begin with: addresses, resolvers, and where the gateway is.
func (p *probes) network(ctx context.Context) {
	p.seen.Addresses = p.cfg.Addresses()
	p.alive(ctx)
	for _, ep := range p.cfg.Endpoints {
		var addrs []netip.Addr
		if a, err := netip.ParseAddr(ep.Host); err == nil {
			addrs = []netip.Addr{a}
		} else {
			within, cancel := context.WithTimeout(ctx, answerTime)
			addrs, err = p.cfg.Lookup(within, ep.Host)
			cancel()
			p.seen.Lookups = append(p.seen.Lookups, Lookup{Name: p.name(ep.Host, true), Found: err == nil})
		}
		p.name(ep.Name, true)
		e := end{Endpoint: ep}
		port := ep.Port
		if port == 0 {
			port = 443
		}
		for i, a := range addrs {
			place := -1
			if i < 2 {
				place = p.place(a.Unmap())
			}
			e.places = append(e.places, place)
			switch at := ep.Transport; {
			case place < 0:
			case at == "quic":
				p.promise(place, port)
			case (at == "" || at == "https" || at == "websocket") && !slices.Contains(p.seen.Places[place].Ports, port):
				p.seen.Places[place].Ports = append(p.seen.Places[place].Ports, port)
			}
		}
		p.ends = append(p.ends, e)
	}
	for _, name := range p.cfg.Names {
		p.name(name, false)
	}
}
