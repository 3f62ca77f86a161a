package doctor

import (
	"context"
	"time"
)

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
