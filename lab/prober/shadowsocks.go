package prober

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// What is sent to servers suspected of Shadowsocks, with the names that B2 gives it. A server without a replay filter
// answers the replay; others betray by their different ends for different lengths and bytes what they read first.

// The names of probes that others depend on.
const (
	identical   = "R1 the first payload again"
	byteChanged = "R2 byte 0 changed"
)

// again sends the user's first payload with some bytes changed.
func again(name string, staged bool, at ...int) Probe {
	k := Kind{Name: name, Family: "shadowsocks", Network: "tcp", Delayed: true, Staged: staged}
	return simple{k, func(ctx context.Context, t *Target) Answer {
		if len(t.Recorded) == 0 || len(t.Recorded[0]) == 0 {
			return notSent("nothing was recorded")
		}
		b := bytes.Clone(t.Recorded[0])
		for _, i := range at {
			if i >= len(b) {
				return notSent(fmt.Sprintf("what was recorded has %d bytes", len(b)))
			}
			b[i] ^= byte(1 + t.Rand.IntN(255))
		}
		return t.talk(ctx, false, b)
	}}
}

var replays = []Probe{
	again(identical, false),
	again(byteChanged, false, 0),
	again("R3 bytes 0-7, 62, 63 changed", true, 0, 1, 2, 3, 4, 5, 6, 7, 62, 63),
	again("R4 byte 16 changed", true, 16),
	again("R5 bytes 6, 16 changed", false, 6, 16),
	simple{Kind{Name: "all recorded payloads again", Family: "replay", Network: "tcp", Delayed: true},
		func(ctx context.Context, t *Target) Answer {
			if len(t.Recorded) < 2 {
				return notSent("no more than one was recorded")
			}
			return t.talk(ctx, false, t.Recorded...)
		}},
}

// randoms are random bytes of lengths around those that ciphers' salts and first chunks have (NR1), of the one length that
// was seen most (NR2), and of others that OpenVPN and TLS servers are sensitive to (B3, B4).
var randoms = func() (all []Probe) {
	random := func(name string, n int, delayed bool) Probe {
		k := Kind{Name: name + randomBytes(n), Family: "random", Network: "tcp", Delayed: delayed}
		return simple{k, func(ctx context.Context, t *Target) Answer { return t.talk(ctx, false, t.random(n)) }}
	}
	for _, n := range []int{8, 12, 16, 22, 33, 41, 49} {
		for i := n - 1; i <= n+1; i++ {
			all = append(all, random("NR1 ", i, true))
		}
	}
	all = append(all, random("NR2 ", 221, true))
	for _, n := range []int{1, 5, 100, 517, openvpnRandom, 20_000} {
		all = append(all, random("", n, false))
	}
	return append(all, simple{Kind{Name: threshold, Family: "random", Network: "tcp"}, measureThreshold})
}()

func randomBytes(n int) string { return fmt.Sprintf("%d random bytes", n) }

const threshold = "random bytes until the end"

// thresholdMost is more than any server that is known takes before it closes (obfs4 of old, 16384 bytes), and a segment.
const thresholdMost = 32 << 10

// segment is how much one TCP segment carries.
const segment = 1448

// measureThreshold finds after how many random bytes the server closes, and resets (B3). Each length has a connection of
// its own and goes out at once: a server that closes with bytes unread resets, so the two lengths tell how much it reads.
func measureThreshold(ctx context.Context, t *Target) Answer {
	b := t.random(thresholdMost)
	// ask sends so many. An end that comes late is the server's patience, not its reading.
	ask := func(n int) Answer {
		began := time.Now()
		a := t.talk(ctx, false, b[:n])
		if closed(a) && time.Since(began) > t.Patience/2 {
			a.End = Open
		}
		return a
	}
	seen := map[int]End{}
	var steps []int
	for n := 1; n <= thresholdMost; n *= 2 {
		steps = append(steps, n)
	}
	ends := make([]Answer, len(steps))
	done := make(chan int, len(steps))
	for i, n := range steps {
		go func() {
			ends[i] = ask(n)
			done <- i
		}()
	}
	answered := 0
	for range steps {
		i := <-done
		seen[steps[i]] = ends[i].End
		answered = max(answered, ends[i].Bytes)
	}
	// least is the smallest length whose end is among those that are looked for, if they grow with the length.
	least := func(wanted ...End) int {
		is := func(n int) bool {
			e, ok := seen[n]
			if !ok {
				e = ask(n).End
				seen[n] = e
			}
			return slices.Contains(wanted, e)
		}
		for i, n := range steps {
			if !is(n) {
				continue
			}
			low := 0
			if i > 0 {
				low = steps[i-1]
			}
			for n-low > 1 && ctx.Err() == nil {
				if m := (low + n) / 2; is(m) {
					n = m
				} else {
					low = m
				}
			}
			return n
		}
		return 0
	}
	a := Answer{End: Open, Bytes: answered, Closes: least(FIN, RST), Resets: least(RST)}
	// A server that has heard enough within a segment resets for those that come behind its end. Whether that is seen before the
	// end is a race of microseconds, and tells nothing of the server.
	if a.Closes > 0 && a.Closes <= segment && a.Resets > segment {
		a.Resets = 0
	}
	a.What = "takes all of them"
	switch {
	case a.Resets > 0:
		a.End, a.What = RST, fmt.Sprintf("closes at %d, resets at %d", a.Closes, a.Resets)
	case a.Closes > 0:
		a.End, a.What = FIN, fmt.Sprintf("closes at %d", a.Closes)
	}
	if seen[1] == Refused || seen[1] == Unreachable {
		a.End, a.What = seen[1], "no connection"
	}
	return a
}
