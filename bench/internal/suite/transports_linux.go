package suite

import (
	"fmt"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/load"
)

// transports are what a user of one of Godwit's ways across gets, and what it costs: what a path of this machine carries
// and how much CPU it takes; a long path without loss, for starts and datagrams; and one that loses, for goodput.
func transports(d Durations) []Condition {
	fast := clean("bbr", true, d, false)
	fast.Restart = true
	fast.Tests = slices.DeleteFunc(fast.Tests, func(t Test) bool { return t.ID != "down1" && t.ID != "up1" })
	for i, t := range fast.Tests {
		longer := t.Spec
		longer.Warmup, longer.Seconds = 2, 4*d.Clean // some seconds are a few hundred KB
		fast.Tests[i].Slow = &longer
	}
	fast.Tests = append(fast.Tests, Test{ID: "conntime", Spec: load.Spec{Kind: load.ConnTime, Seconds: 1, Count: 100}},
		udp("udp", 20, 1000, d.Clean, 0))
	all := []Condition{fast}
	for _, v := range []struct {
		cc   string
		loss float64
	}{{"bbr", 0}, {"bbr", 0.01}, {"bbr", 0.03}, {"cubic", 0.01}, {"cubic", 0.03}} {
		c := long(v.cc, v.loss, d, true)
		path := 2 * c.Link.Delay
		c.Tests = slices.DeleteFunc(c.Tests, func(t Test) bool { return t.ID != "down1" && t.ID != "up1" })
		switch {
		case v.cc == "cubic":
			c.Name, c.KeepCC = fmt.Sprintf("long-cubic-only-loss%g", v.loss*100), true
			c.About += " No peer's program can choose another congestion control for TCP: as on a host without BBR."
		case v.loss == 0:
			c.Restart = true
			c.Tests = []Test{
				{ID: "conntime", Spec: load.Spec{Kind: load.ConnTime, Seconds: 8, Count: 5}},
				udp("udp", 2, 1000, d.Long/2, path), udp("call", 0.08, 200, d.Long/2, path),
			}
		case v.loss == 0.01:
			c.Restart = true
			c.Tests = append(c.Tests, udp("udp", 2, 1000, d.Long/2, path))
		}
		all = append(all, c)
	}
	return all
}

// udp sends so many Mbit/s of datagrams of some size beside a download; a call has 50 of 200 bytes in a second. Where that
// is more than a peer carries, and would be all that it carries, it is 5 in a second.
func udp(id string, rate float64, size int, seconds float64, path time.Duration) Test {
	s := load.Spec{Kind: load.UDP, Rate: rate, Bytes: size, Seconds: seconds, Bulk: 1, Warmup: 2, Path: path}
	if path == 0 {
		s.Warmup = 0.5
	}
	slow := s
	slow.Rate, slow.Bytes, slow.Seconds = 0.008, 200, 2*seconds
	return Test{ID: id, Spec: s, Slow: &slow}
}
