package doctor

import (
	"context"
	"time"
)

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
