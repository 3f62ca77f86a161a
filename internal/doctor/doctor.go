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
	madeUp    string       // see MadeUp
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
	r := &Report{Evidence: &p.seen, addrs: p.addrs, names: p.names}
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
		port := ep.Port
		if port == 0 {
			port = 443
		}
		for i, a := range addrs {
			place := -1
			if i < 2 {
				place = p.place(a.Unmap())
			}
			switch at := ep.Transport; {
			case place < 0:
			case at == "quic":
				p.promise(place, port)
			case (at == "" || at == "https" || at == "websocket") && !slices.Contains(p.seen.Places[place].Ports, port):
				p.seen.Places[place].Ports = append(p.seen.Places[place].Ports, port)
			}
		}
	}
	for _, name := range p.cfg.Names {
		p.name(name, false)
	}
}

// nobodysPort is one where gateways do not listen: what holds the address says so, if anything of it comes through.
const nobodysPort = 8444

// reach connects to every place, twice where nothing comes back, and then elsewhere on it.
func (p *probes) reach(ctx context.Context) {
	try := func(place int, port uint16, times int) bool {
		for range times {
			c, seen := p.connect(ctx, place, port, 0, 0)
			p.seen.Connects = append(p.seen.Connects, seen)
			if c != nil {
				c.linger(true)
				c.Close()
				return true
			}
		}
		return false
	}
	for place := range p.addrs {
		opened := true
		for _, port := range p.seen.Places[place].Ports {
			opened = try(place, port, 2) && opened // once can be an accident
		}
		if !opened && !try(place, p.cfg.PlainPort, 1) {
			try(place, nobodysPort, 1)
		}
	}
}

// opens reports whether a TCP port was opened.
func (o *Observations) opens(place int, port uint16) bool {
	return slices.ContainsFunc(o.Connects, func(c Connect) bool { return c.Place == place && c.Port == port && c.Outcome == OK })
}

// door is a place's first port for TLS that opens; zero if there is none.
func (o *Observations) door(place int) uint16 {
	for _, port := range o.Places[place].Ports {
		if o.opens(place, port) {
			return port
		}
	}
	return 0
}

// reached is the first place that TCP came through to; -1 if there is none.
func (p *probes) reached() int {
	for i := range p.addrs {
		if slices.ContainsFunc(p.seen.Connects, func(c Connect) bool { return c.Place == i && (c.Outcome == OK || c.Outcome == Refused) }) {
			return i
		}
	}
	return -1
}

func (p *probes) hellos(h Hello, _ uint16) Outcome {
	p.seen.Hellos = append(p.seen.Hellos, h)
	return h.Outcome
}

// neutral visits the website as Chrome and as a Go program, without a name and with one that is on no list. As soon as one of
// these is cut, what got through first is tried again: is it that hello that is minded, or everybody after it? In the latter
// case it is the end there. At a second place the order is another.
func (p *probes) neutral(ctx context.Context) {
	type step struct {
		kind string
		name int
	}
	for place := range min(len(p.addrs), 2) {
		port := p.seen.door(place)
		if port == 0 {
			continue
		}
		order := []step{{Browser, 0}, {Browser, MadeUp}, {Plainly, 0}, {Plainly, MadeUp}, {Small, 0}}
		if place > 0 {
			order = []step{{Small, 0}, {Plainly, 0}, {Plainly, MadeUp}, {Browser, 0}, {Browser, MadeUp}}
		}
		var good step
		var cut []step
		try := func(s step) {
			o := p.hellos(p.hello(ctx, place, port, s.kind, s.name, 0))
			switch {
			case o == OK && good.kind == "":
				good = s
			case o.cut():
				cut = append(cut, s)
				p.blocked[place] = good.kind != "" && p.hellos(p.hello(ctx, place, port, good.kind, good.name, 0)) != OK
			}
		}
		for _, s := range order {
			if !p.blocked[place] {
				try(s)
			}
		}
		again := cut // once can be an accident
		if good.kind == "" && len(again) > 1 {
			again = again[:1] // nothing passes: one more will do
		}
		for _, s := range again {
			if !p.blocked[place] {
				try(s)
			}
		}
	}
}

func (p *probes) neutralPlain(ctx context.Context) {
	for place := range min(len(p.addrs), 2) {
		if p.anything(place) {
			s, _ := p.plain(ctx, place, 0, 0)
			if s.Outcome.cut() {
				p.seen.Plains = append(p.seen.Plains, s)
				s, _ = p.plain(ctx, place, 0, 0)
			}
			p.seen.Plains = append(p.seen.Plains, s)
		}
	}
}

// anything reports whether anything of a place came through.
func (p *probes) anything(place int) bool {
	return slices.ContainsFunc(p.seen.Connects, func(c Connect) bool { return c.Place == place && (c.Outcome == OK || c.Outcome == Refused) })
}

// passed reports whether a hello of that kind came to its end, and is not known to be cut since.
func (o *Observations) passed(place int, kind string, name int) (passed bool) {
	for _, h := range o.Hellos {
		if h.Place == place && h.Hello == kind && h.Name == name {
			passed = h.Outcome == OK
		}
	}
	return passed
}

// where is the first place whose website can be visited; -1 if there is none.
func (p *probes) where() int {
	for place := range p.addrs {
		if p.seen.passed(place, Browser, 0) && !p.blocked[place] {
			return place
		}
	}
	return -1
}

func (p *probes) bulks(b Bulk) Bulk {
	p.seen.Bulks = append(p.seen.Bulks, b)
	return b
}

// neutralBulk carries much without a name; again if it stands still or is slow, and elsewhere.
func (p *probes) neutralBulk(ctx context.Context) {
	for place := range min(len(p.addrs), 2) {
		port := p.seen.door(place)
		if port == 0 || !p.seen.passed(place, Browser, 0) || p.blocked[place] {
			continue
		}
		b := p.bulks(p.bulk(ctx, place, port, 0))
		if b.slow() {
			p.bulks(p.bulk(ctx, place, port, 0))
		}
		if b.Outcome == OK {
			break
		}
		p.bulks(p.bulk(ctx, place, port, 0))
		p.hellos(p.hello(ctx, place, port, Browser, 0, 0)) // a small one, after it
	}
}

// How QUIC's port is asked for versions: a few, and, when the socket is old, as many as a slow upload.
const (
	fewDatagrams  = 40
	fewApart      = 40 * time.Millisecond
	manyDatagrams = 300
	manyApart     = 4 * time.Millisecond
	oldSocket     = 9 * time.Second // firewalls have let long uploads be for five
)

// udp asks by UDP and QUIC where there is QUIC, until a place answers that TCP gets to, too: the others cost as much again.
// Names come last.
func (p *probes) udp(ctx context.Context) {
	for place := range p.addrs {
		answered := false
		for _, port := range p.seen.Places[place].QUIC {
			answered = p.quicPort(ctx, place, port) || answered
		}
		if answered && p.anything(place) {
			return
		}
	}
}

// quicPort reports whether anything answers there.
func (p *probes) quicPort(ctx context.Context, place int, port uint16) bool {
	c, err := p.cfg.Dial(ctx, "udp", 0, p.at(place, port))
	if err != nil {
		p.seen.Datagrams = append(p.seen.Datagrams, Datagrams{Place: place, Port: port, Answered: "0"})
		return false
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	opened := time.Now()
	ask := func(c net.Conn, opened time.Time, count int, apart time.Duration) Datagrams {
		d := Datagrams{Place: place, Port: port, Age: time.Since(opened).Seconds()}
		d.Answered, d.Rate, d.Refused = datagrams(ctx, c, count, apart)
		p.seen.Datagrams = append(p.seen.Datagrams, d)
		return d
	}
	initials := func(i Initial) Initial {
		p.seen.Initials = append(p.seen.Initials, i)
		return i
	}
	few := ask(c, opened, fewDatagrams, fewApart)
	if few.share() == 0 {
		return initials(p.initial(ctx, place, port, 1, 0, false)).Outcome == OK
	}
	one := initials(p.initial(ctx, place, port, 1, 0, false))
	if one.Outcome == Silent {
		one = initials(p.initial(ctx, place, port, 1, 0, false))
	}
	initials(p.initial(ctx, place, port, 1, 0, true))
	if two := initials(p.initial(ctx, place, port, 2, 0, false)); two.Outcome == Silent && one.Outcome == OK {
		initials(p.initial(ctx, place, port, 2, 0, false))
	}
	if few.share() >= mostlyAnswered {
		sleep(ctx, oldSocket-time.Since(opened))
		many := ask(c, opened, manyDatagrams, manyApart)
		// Is it the socket's age? Twice, for servers have their limits too.
		for i := 0; i < 2 && many.share() < mostlyAnswered; i++ {
			if fresh, err := p.cfg.Dial(ctx, "udp", 0, p.at(place, port)); err == nil {
				ask(fresh, time.Now(), manyDatagrams, manyApart)
				fresh.Close()
			}
			if i == 0 {
				ask(c, opened, manyDatagrams, manyApart)
			}
		}
	}
	if one.Outcome != OK {
		return true
	}
	for name := 1; name < len(p.names); name++ {
		var i Initial
		for range 2 {
			if i = initials(p.initial(ctx, place, port, 1, name, false)); i.Fresh != OK {
				return true // all are blocked now
			}
		}
		if i.Outcome != OK || i.Again != OK { // does the name get through in the shape that browsers give it?
			initials(p.initial(ctx, place, port, 1, name, true))
		}
	}
	return true
}

// mostlyAnswered is the share of datagrams from which on nothing is the matter.
const mostlyAnswered = 0.8

// share is how many of them were answered.
func (d *Datagrams) share() float64 {
	n := 0
	for _, c := range d.Answered {
		if c == '1' {
			n++
		}
	}
	return float64(n) / float64(max(1, len(d.Answered)))
}

// named says names: in TLS, then in HTTP, and in a connection that carries more. Each up to three times, for firewalls that draw
// lots.
func (p *probes) named(ctx context.Context) {
	for name := 1; name < len(p.names); name++ {
		p.namedTLS(ctx, name)
		p.namedPlain(ctx, name)
	}
}

const nameTries = 3

func (p *probes) namedTLS(ctx context.Context, name int) {
	place := p.where()
	if place < 0 {
		return
	}
	port := p.seen.door(place)
	if !p.seen.passed(place, Browser, MadeUp) {
		return // it is not about this name
	}
	for _, kind := range []string{Browser, Small} {
		if !p.seen.passed(place, kind, 0) {
			continue
		}
		for range nameTries {
			h, from := p.hello(ctx, place, port, kind, name, 0)
			if p.hellos(h, 0) != OK {
				p.residual(ctx, place, port, name, kind, from, h.At)
				return
			}
		}
	}
	if last := p.last(place, 0); last == nil || last.Outcome != OK {
		return // frozen without a name: with one it is no other
	}
	if b := p.bulks(p.bulk(ctx, place, port, name)); b.Outcome != OK || b.Rate < p.last(place, 0).Rate/slower {
		// By turns, for a network can be slow for a while by itself.
		p.bulks(p.bulk(ctx, place, port, 0))
		p.bulks(p.bulk(ctx, place, port, name))
		p.bulks(p.bulk(ctx, place, port, 0))
	}
}

// slower is how many times slower a connection with a name is if the name is minded.
const slower = 3

// last is a place's last bulk with a name.
func (p *probes) last(place, name int) (b *Bulk) {
	for i := range p.seen.Bulks {
		if p.seen.Bulks[i].Place == place && p.seen.Bulks[i].Name == name {
			b = &p.seen.Bulks[i]
		}
	}
	return b
}

// residual looks, right after a hello with a name was cut, whether it is made to suffer for longer.
func (p *probes) residual(ctx context.Context, place int, port uint16, name int, kind string, from uint16, since float64) {
	r := Residual{Protocol: "tls", Place: place, Port: port, Name: name, SamePort: Untested, Since: since}
	r.NewPort = p.hellos(p.hello(ctx, place, port, Browser, 0, 0))
	if r.NewPort == OK && from != 0 {
		h, _ := p.hello(ctx, place, port, Browser, 0, from)
		r.SamePort = h.Outcome
	}
	if r.NewPort != OK || r.SamePort.cut() {
		r.Still = time.Since(p.began).Seconds()
	}
	p.seen.Residuals = append(p.seen.Residuals, r)
	if r.NewPort == OK { // and again, to be sure
		p.hellos(p.hello(ctx, place, port, kind, name, 0))
	}
	p.waits = append(p.waits, wait{len(p.seen.Residuals) - 1, from})
}

func (p *probes) namedPlain(ctx context.Context, name int) {
	for place := range p.addrs {
		if !p.plainPassed(place) {
			continue
		}
		for range nameTries {
			s, from := p.plain(ctx, place, name, 0)
			p.seen.Plains = append(p.seen.Plains, s)
			if s.Outcome == OK && s.Home {
				continue
			}
			r := Residual{Protocol: "http", Place: place, Port: p.cfg.PlainPort, Name: name, SamePort: Untested,
				Since: time.Since(p.began).Seconds()}
			neutral, _ := p.plain(ctx, place, 0, 0)
			p.seen.Plains = append(p.seen.Plains, neutral)
			if r.NewPort = neutral.Outcome; r.NewPort == OK && from != 0 {
				same, _ := p.plain(ctx, place, 0, from)
				r.SamePort = same.Outcome
			}
			if r.NewPort != OK || r.SamePort.cut() {
				r.Still = time.Since(p.began).Seconds()
			}
			p.seen.Residuals = append(p.seen.Residuals, r)
			p.waits = append(p.waits, wait{len(p.seen.Residuals) - 1, from})
			if r.NewPort == OK {
				s, _ := p.plain(ctx, place, name, 0)
				p.seen.Plains = append(p.seen.Plains, s)
			}
			return
		}
		return
	}
}

// plainPassed reports whether a place's last plain answer without a name was the gateway's.
func (p *probes) plainPassed(place int) (passed bool) {
	for _, s := range p.seen.Plains {
		if s.Place == place && s.Name == 0 {
			passed = s.Outcome == OK && s.Home
		}
	}
	return passed
}

// bursts opens several connections at nearly the same time, if that is wanted.
func (p *probes) bursts(ctx context.Context) {
	place := p.where()
	if p.cfg.Burst == 0 || place < 0 {
		return
	}
	port := p.seen.door(place)
	name := 0
	for n := 1; n < len(p.names); n++ {
		if p.seen.passed(place, Browser, n) {
			name = n
			break
		}
	}
	sleep(ctx, 2*time.Second)
	b := Burst{Place: place, Name: name, Outcomes: make([]Outcome, p.cfg.Burst), Since: time.Since(p.began).Seconds()}
	done := make(chan struct{})
	for i := range b.Outcomes {
		go func() {
			defer func() { done <- struct{}{} }()
			b.Outcomes[i] = p.lone(ctx, place, port, name)
		}()
		sleep(ctx, burstApart)
	}
	for range b.Outcomes {
		<-done
	}
	sleep(ctx, time.Second)
	later, _ := p.hello(ctx, place, port, Browser, name, 0) // no more evidence about the name alone
	neutral, _ := p.hello(ctx, place, port, Browser, 0, 0)
	b.Later, b.Neutral = later.Outcome, neutral.Outcome
	if b.Later.cut() {
		b.Still = time.Since(p.began).Seconds()
	}
	p.seen.Bursts = append(p.seen.Bursts, b)
}

// burstApart is how close browsers' parallel connections are, and closer than 350 ms.
const burstApart = 60 * time.Millisecond

// lone is a hello without distance to others.
func (p *probes) lone(ctx context.Context, place int, port uint16, name int) Outcome {
	within, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	tcp, err := p.cfg.Dial(within, "tcp", 0, p.at(place, port))
	if err != nil {
		return outcome(err)
	}
	c := &counted{Conn: tcp, from: time.Now()}
	defer c.Close()
	_, _, _, err = p.shake(ctx, c, Browser, p.names[name])
	if alert(err) {
		return OK
	}
	return outcome(err)
}

// A wait is for a residual block to end.
type wait struct {
	residual int // its number
	from     uint16
}

// patience asks, less and less often since that may prolong it, whether what was blocked is let go.
func (p *probes) patience(ctx context.Context) {
	until := time.Now().Add(p.cfg.Patience)
	for _, w := range p.waits {
		r := &p.seen.Residuals[w.residual]
		if r.Still == 0 {
			continue
		}
		local := uint16(0)
		if r.NewPort == OK {
			local = w.from
		}
		for pause := 5 * time.Second; r.Gone == 0 && time.Now().Add(pause).Before(until) && ctx.Err() == nil; pause *= 2 {
			sleep(ctx, pause)
			var o Outcome
			if r.Protocol == "http" {
				s, _ := p.plain(ctx, r.Place, 0, local)
				o = s.Outcome
			} else {
				h, _ := p.hello(ctx, r.Place, r.Port, Browser, 0, local)
				o = h.Outcome
			}
			if now := time.Since(p.began).Seconds(); o == OK {
				r.Gone = now
			} else if o.cut() {
				r.Still = now
			}
		}
	}
	for i := range p.seen.Bursts {
		b := &p.seen.Bursts[i]
		for pause := 5 * time.Second; b.Later.cut() && b.Gone == 0 && time.Now().Add(pause).Before(until) && ctx.Err() == nil; pause *= 2 {
			sleep(ctx, pause)
			h, _ := p.hello(ctx, b.Place, p.seen.door(b.Place), Browser, b.Name, 0)
			if now := time.Since(p.began).Seconds(); h.Outcome == OK {
				b.Gone = now
			} else {
				b.Still = now
			}
		}
	}
}
