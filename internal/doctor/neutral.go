package doctor

import (
	"context"
	"net"
	"slices"
	"time"
)

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
