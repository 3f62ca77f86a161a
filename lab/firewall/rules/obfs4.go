package rules

import (
	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Obfs4 looks for a handshake like obfs4's by its sizes: each side sends at once what looks random and is of any length to
// 8192 bytes, in full segments and a tail.
//
// This is an approximation from obfs4's specification (the handshake is a key, padding, a mark and a MAC of 149 to 8192
// bytes; the server's answer of 96 and more) and from what classifiers in the literature say they see, bursts of full
// segments with a random tail. Nobody has measured a censor that does just this, nor its false positives: any protocol that
// is encrypted from the first byte on and has something long to say at once is hit too. Use it to rouse the prober.
type Obfs4 struct {
	Aim
	// Client and Server bound the handshakes; zero is 149 to 8192 and 96 to 8192.
	Client [2]int `toml:"client"`
	Server [2]int `toml:"server"`
	// Full is how many full segments there are at least, of both; zero is 1. A full one has Segment bytes; zero is 1300.
	Full    int  `toml:"full"`
	Segment int  `toml:"segment"`
	Then    Then `toml:"then"`
}

func (r *Obfs4) check(place firewall.Place) error {
	for _, b := range []struct {
		field  string
		bounds [2]int
	}{{"client", r.Client}, {"server", r.Server}} {
		if b.bounds[0] < 0 || b.bounds[0] > b.bounds[1] {
			return wrong(b.field, "wants the least and the most, as [149, 8192]")
		}
	}
	return checkAll(&r.Aim, &r.Then, place, positive("full", r.Full), positive("segment", r.Segment))
}

// Watch looks at the first burst of each side.
func (r *Obfs4) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.at(f) {
		return nil
	}
	return &obfs4{rule: r}
}

type obfs4 struct {
	rule  *Obfs4
	bytes [2]int
	tail  [2]bool // a segment that is not full was seen
	full  int
}

func (w *obfs4) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	size, s := len(p.Payload), side(p)
	if size == 0 {
		return
	}
	bounds := [2][2]int{or(w.rule.Client, [2]int{149, 8192}), or(w.rule.Server, [2]int{96, 8192})}
	if s == 0 && w.bytes[1] > 0 { // the client speaks again: the server has answered
		do.Done()
		if w.in(0, bounds) && w.in(1, bounds) && w.full >= or(w.rule.Full, 1) {
			w.rule.Then.do(f, do, "first bursts of %d and %d bytes", w.bytes[0], w.bytes[1])
		}
		return
	}
	if s == 0 && w.bytes[0] == 0 && !looksRandom(p.Payload) || s == 1 && w.bytes[0] == 0 || w.tail[s] && s == 0 {
		do.Done()
		return
	}
	w.bytes[s] += size
	if size >= or(w.rule.Segment, 1300) {
		w.full++
	} else {
		w.tail[s] = true
	}
	if w.bytes[s] > bounds[s][1] {
		do.Done()
	}
}

// in reports whether a side's burst could be a handshake.
func (w *obfs4) in(s int, bounds [2][2]int) bool {
	return w.tail[s] && w.bytes[s] >= bounds[s][0] && w.bytes[s] <= bounds[s][1]
}
