package rules

import (
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// FixedRate tests fast flows: it polices one to half of what it has for a while. Who adapts sends less, who was told a rate
// sends on.
//
// Hysteria's Brutal, and its like, 2025: with 5 % of loss, or throttled from 100 to 50 Mbit/s, it goes on at its rate, and all
// of 10,080 flows made in a laboratory were told by that; BBR was not (as summed up in a collection of papers:
// "2025-wang-custom"). The test costs the flow something, so a censor would draw a few: Chance. Its times and limits are ours.
type FixedRate struct {
	To Nets `toml:"to"`
	// Fast is from what rate on a flow is tested, in bits a second; zero is 2 Mbit/s.
	Fast int `toml:"fast"`
	// Before and Test are how long is measured before and in the test; zero is 3 s and 6 s. Of the test the second half counts.
	Before Dur `toml:"before"`
	Test   Dur `toml:"test"`
	// Keeps is from what share of its rate before the flow is found; zero is 0.9.
	Keeps  float64 `toml:"keeps"`
	Chance float64 `toml:"chance"`
	// Scores has flows that are cleared reported too, with their score.
	Scores bool `toml:"scores"`
	// Then, if it is there, is done with what is found.
	Then *Then `toml:"then"`
}

func (r *FixedRate) check(place firewall.Place) error {
	if place != firewall.InPath {
		return wrong("test", "a box that sees a copy cannot police")
	}
	if r.Fast < 0 {
		return wrong("fast", "%d is no number of bits a second", r.Fast)
	}
	if err := chance("keeps", r.Keeps); err != nil {
		return err
	}
	if err := chance("chance", r.Chance); err != nil {
		return err
	}
	if r.Then != nil {
		return r.Then.check(place)
	}
	return nil
}

// Watch measures what the server sends.
func (r *FixedRate) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP && f.Proto != firewall.UDP || !f.FromInside || !r.To.Covers(f.Server.Addr()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	return &rateTest{rule: r, begin: f.Began}
}

type rateTest struct {
	rule    *FixedRate
	testing bool
	begin   time.Duration // of what is measured now
	bytes   int           // since
	rate    int           // before the test, in bits a second
	full    bucket
}

// Packet implements firewall.Watcher.
func (w *rateTest) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if p.FromClient {
		return
	}
	if !w.testing {
		w.bytes += p.Size
		if before := or(time.Duration(r.Before), 3*time.Second); p.At-w.begin >= before {
			w.rate = int(float64(w.bytes) * 8 / (p.At - w.begin).Seconds())
			w.testing = w.rate >= or(r.Fast, 2_000_000)
			w.begin, w.bytes = p.At, 0
		}
		return
	}
	test := or(time.Duration(r.Test), 6*time.Second)
	if p.At-w.begin >= test/2 { // what it sends, not what passes
		w.bytes += p.Size
	}
	if p.At-w.begin < test {
		if !w.full.take(p.At, p.Size, w.rate/2, max(3000, w.rate/160)) { // 50 ms of it
			do.Drop()
		}
		return
	}
	keeps := float64(w.bytes) * 8 / (test / 2).Seconds() / float64(w.rate)
	verdict(keeps >= or(r.Keeps, 0.9), r.Then, r.Scores, f, do, "fixed-rate: %.2f of %d bit/s kept when half is policed away", keeps, w.rate)
}
