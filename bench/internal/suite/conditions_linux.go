// Package suite decides what is measured under which conditions, and does it: run by run, condition by condition, peer
// by peer, each measurement on hosts of its own that are new and vanish afterwards.
package suite

import (
	"fmt"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Condition is a path and what is measured on it.
type Condition struct {
	Name  string
	About string
	Net   topology.Config
	// Link is what the path between client and gateway does, in each direction; nil routes.
	Link  *linkmodel.Direction
	Tests []Test
	// KeepCC refuses peers a congestion control other than Net.CC. Restart starts the client once more, at the end.
	KeepCC, Restart bool
}

// Test is a load test under a name that its metrics carry.
type Test struct {
	ID   string
	Spec load.Spec
	// Slow, if not nil, takes its place for slow peers.
	Slow *load.Spec
}

// Peers are what of a suite is measured if nothing else is asked for.
func Peers(name string) []string {
	if name == Transports {
		return []string{"direct", "reality", "hysteria2", "godwit", "godwit-https", "godwit-quic", "godwit-nginx", "godwit-http", "godwit-relay",
			"godwit-dns"}
	}
	if name == Page {
		return []string{"direct", "wireguard", "sing-box-tun", "godwit-tun", "godwit-tun-names"}
	}
	return []string{"direct", "wireguard", "reality", "trojan", "hysteria2", "godwit", "godwit-1", "godwit-3"}
}

// Durations are how long the bulk tests take.
type Durations struct {
	Clean float64 // seconds, after half a second of warm-up
	Long  float64 // seconds, from the first connection attempt
}

// bigBuffers is more than twice what 1 Gbit/s and 200 ms hold on their way.
const bigBuffers = 64 << 20

const (
	mbit = 1_000_000
	gbit = 1000 * mbit
)

// The names of the suites.
const (
	Quick      = "quick"
	Full       = "full"
	Transports = "transports"
	Page       = "page"
)

// Defaults are a suite's durations and runs.
func Defaults(name string) (d Durations, runs int, err error) {
	switch name {
	case Quick:
		return Durations{Clean: 1.5, Long: 6}, 3, nil
	case Full:
		return Durations{Clean: 3, Long: 20}, 5, nil
	case Transports, Page:
		return Durations{Clean: 1.5, Long: 8}, 3, nil
	}
	return d, 0, fmt.Errorf("no suite %q: there are quick, full, transports and page", name)
}

// Conditions lists a suite's conditions.
func Conditions(name string, d Durations) []Condition {
	if name == Quick {
		return []Condition{clean("bbr", true, d, false), long("bbr", 0.01, d, false)}
	}
	if name == Transports {
		return transports(d)
	}
	if name == Page {
		return pages()
	}
	var all []Condition
	for _, cc := range []string{"bbr", "cubic"} {
		all = append(all, clean(cc, true, d, true), clean(cc, false, d, true))
	}
	for _, cc := range []string{"bbr", "cubic"} {
		all = append(all, fat(cc, d))
		for _, loss := range []float64{0, 0.01, 0.03} {
			all = append(all, long(cc, loss, d, true))
		}
	}
	return append(all, keys(d))
}

func clean(cc string, offloads bool, d Durations, full bool) Condition {
	bulk := func(id string, kind load.Kind, streams int) Test {
		return Test{ID: id, Spec: load.Spec{Kind: kind, Streams: streams, Seconds: d.Clean, Warmup: 0.5}}
	}
	tests := []Test{bulk("down1", load.Down, 1), bulk("up1", load.Up, 1), bulk("down4", load.Down, 4)}
	if full {
		tests = append(tests, bulk("up4", load.Up, 4))
	}
	tests = append(tests,
		Test{ID: "pingpong", Spec: load.Spec{Kind: load.PingPong, Seconds: 1}},
		Test{ID: "loaded", Spec: load.Spec{Kind: load.PingPong, Seconds: min(d.Clean, 2), Bulk: 1, Warmup: 0.5}},
		Test{ID: "connrate", Spec: load.Spec{Kind: load.ConnRate, Seconds: min(d.Clean, 2), Workers: 64}},
		Test{ID: "conntime", Spec: load.Spec{Kind: load.ConnTime, Seconds: 1, Count: 300}},
	)
	c := Condition{Name: "clean-" + cc, Net: topology.Config{CC: cc, Offloads: offloads}, Tests: tests}
	c.About = "Nothing limits the path but this machine. Segmentation offload is on, as virtual cables have it: a frame " +
		"between client and gateway can be 64 KB, which flatters whoever sends large segments."
	if !offloads {
		c.Name += "-mtu1500"
		c.About = "Nothing limits the path but this machine. Offloads are off between client, transit and gateway: no " +
			"frame is longer than 1500 bytes."
	}
	c.About += fmt.Sprintf(" Bulk tests take %g s after 0.5 s.", d.Clean)
	return c
}

// longTests are for paths where a round trip takes time: bulk counts from the first connection attempt.
func longTests(d Durations, full bool) []Test {
	conns, fetches, typing := 5, 2, 5.0
	if full {
		conns, fetches, typing = 10, 3, 10
	}
	tests := []Test{{ID: "down1", Spec: load.Spec{Kind: load.Down, Streams: 1, Seconds: d.Long}}}
	if full {
		tests = append(tests, Test{ID: "up1", Spec: load.Spec{Kind: load.Up, Streams: 1, Seconds: d.Long}})
	}
	return append(tests,
		Test{ID: "conntime", Spec: load.Spec{Kind: load.ConnTime, Seconds: 8, Count: conns}},
		Test{ID: "fetch", Spec: load.Spec{Kind: load.Fetch, Seconds: 30, Count: fetches, Bytes: 1_000_000}},
		Test{ID: "keystroke", Spec: load.Spec{Kind: load.Keystroke, Seconds: min(d.Long, typing), Interval: 50 * time.Millisecond,
			Bulk: 1, Warmup: 2}},
	)
}

func long(cc string, loss float64, d Durations, full bool) Condition {
	return Condition{
		Name: fmt.Sprintf("long-%s-loss%g", cc, loss*100),
		About: fmt.Sprintf("200 ms round trip, 100 Mbit/s with a 50 ms tail-drop queue, %g %% of frames lost each way. "+
			"Bulk is the mean of %g s from the first connection attempt, with slow start. No frame is longer than 1500 bytes.", loss*100, d.Long),
		Net:   topology.Config{CC: cc, Linked: true},
		Link:  &linkmodel.Direction{Delay: 100 * time.Millisecond, Rate: 100 * mbit, Loss: loss, QueueTime: 50 * time.Millisecond},
		Tests: longTests(d, full),
	}
}

// fat is a path that only large windows fill. Stock kernels stop at a send buffer of 4 MB, and all peers would show
// that limit; so the limit is raised for every process alike.
func fat(cc string, d Durations) Condition {
	bulk := func(id string, kind load.Kind, streams int) Test {
		return Test{ID: id, Spec: load.Spec{Kind: kind, Streams: streams, Seconds: d.Long / 2, Warmup: 3}}
	}
	return Condition{
		Name: "fat-" + cc,
		About: fmt.Sprintf("200 ms round trip, 1 Gbit/s with a 50 ms tail-drop queue, no loss; TCP buffers may grow to "+
			"64 MB on every host. Bulk is %g s after 3 s. The link model takes a good part of this machine at this rate.", d.Long/2),
		Net:   topology.Config{CC: cc, Linked: true, MaxBuffer: bigBuffers},
		Link:  &linkmodel.Direction{Delay: 100 * time.Millisecond, Rate: gbit, QueueTime: 50 * time.Millisecond},
		Tests: []Test{bulk("down1", load.Down, 1), bulk("up1", load.Up, 1), bulk("down4", load.Down, 4)},
	}
}

// keys is the keystroke test at half of long's round trip; long has it at 200 ms.
func keys(d Durations) Condition {
	return Condition{
		Name:  "keys-bbr-100ms",
		About: "100 ms round trip, 100 Mbit/s with a 50 ms tail-drop queue, no loss: typing beside a download.",
		Net:   topology.Config{CC: "bbr", Linked: true},
		Link:  &linkmodel.Direction{Delay: 50 * time.Millisecond, Rate: 100 * mbit, QueueTime: 50 * time.Millisecond},
		Tests: []Test{{ID: "keystroke", Spec: load.Spec{Kind: load.Keystroke, Seconds: min(d.Long, 10), Interval: 50 * time.Millisecond,
			Bulk: 1, Warmup: 2}}},
	}
}

// Estimate is how long one measurement takes, roughly.
func (c Condition) Estimate() time.Duration {
	secs := 1.5
	for _, t := range c.Tests {
		switch s := t.Spec; s.Kind {
		case load.Fetch:
			secs += float64(s.Count) * 1.5
		case load.ConnTime:
			if c.Link != nil {
				secs += float64(s.Count) * 0.4
			} else {
				secs += 0.5
			}
		case load.Page:
			secs += 3 + float64(s.Count+1)*(1.5+16*c.Link.Delay.Seconds())
		case load.UDP:
			secs += s.Seconds + s.Warmup + 2
		default:
			secs += s.Seconds + s.Warmup + 0.2
		}
	}
	if c.Restart {
		secs += 1.5
	}
	return time.Duration(secs * float64(time.Second))
}
