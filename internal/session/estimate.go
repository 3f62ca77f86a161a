package session

import (
	"math"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// rttEstimate follows a link's round trip as TCP does (RFC 6298 §2).
type rttEstimate struct {
	smoothed, variation, least time.Duration
	measured                   bool
}

// seed sets a first guess.
func (e *rttEstimate) seed(guess time.Duration) {
	if guess <= 0 {
		guess = firstRTT
	}
	e.smoothed, e.variation, e.least = guess, guess/2, guess
}

func (e *rttEstimate) sample(d time.Duration) {
	if d < 0 {
		return
	}
	if !e.measured {
		e.measured = true
		e.smoothed, e.variation, e.least = d, d/2, d
		return
	}
	e.least = min(e.least, d)
	e.variation += (max(e.smoothed-d, d-e.smoothed) - e.variation) / 4
	e.smoothed += (d - e.smoothed) / 8
}

// rateEstimate follows the rate at which a link's bytes are acknowledged: the best of the last few windows, since a
// window in which the application had little to send says nothing of the path.
type rateEstimate struct {
	since   time.Time
	bytes   int
	windows [8]float64 // bytes per second
	at      int
	top     float64
}

const rateWindow = 50 * time.Millisecond

// acked notes n acknowledged bytes. It reports whether a window has ended.
func (e *rateEstimate) acked(n int, now time.Time) bool {
	if e.since.IsZero() || now.Sub(e.since) > time.Second { // begin, or begin again after a silence
		e.since, e.bytes = now, 0
		return false
	}
	e.bytes += n
	d := now.Sub(e.since)
	if d < rateWindow {
		return false
	}
	e.windows[e.at] = float64(e.bytes) / d.Seconds()
	e.at = (e.at + 1) % len(e.windows)
	e.since, e.bytes = now, 0
	e.top = 0
	for _, w := range e.windows {
		e.top = max(e.top, w)
	}
	return true
}

// best is the rate in bytes per second, 0 before anything is known.
func (e *rateEstimate) best() float64 { return e.top }

// recentBytes counts bytes and forgets them, two thirds in each second, so that links can be compared by what they carry on
// the whole: a silence and the burst after it look like a high rate.
type recentBytes struct {
	bytes float64
	as    time.Time // when it was so
}

func (r *recentBytes) add(n int, now time.Time) { r.bytes, r.as = r.at(now)+float64(n), now }
func (r *recentBytes) at(now time.Time) float64 { return r.bytes * math.Exp(-now.Sub(r.as).Seconds()) }

// pathEstimate judges whether other links should help one: whether several connections carry more than it alone. They do
// where the path loses what is sent on it while nothing waits there, since each slows down for its own losses only, and
// where this one is so slow that something must be wrong with it. They do not where a connection fills the path's queue
// and loses what overflows, as each does when it looks for its rate: then several only fill it for ever.
type pathEstimate struct {
	since     time.Time
	last      transport.Path
	arrived   int  // bytes that were acknowledged until since
	full      bool // the link took no more at some time since
	bad, good int  // intervals in a row
	help      bool
	// lossBased says that the connection takes losses for a full path (CUBIC, Reno): where they are none, it stays slow.
	lossBased bool
}

const (
	pathInterval = 500 * time.Millisecond
	pathSample   = 100 // segments that tell of losses
	// lossy is the share of losses that counts: a tenth of what BBR bears.
	lossy = 0.003
	// slowLink is the rate, in bytes per second, that counts.
	slowLink = 256 << 10
	// A connection's search for its rate ends within badIntervals; a verdict lasts goodIntervals.
	badIntervals  = 3
	goodIntervals = 6
	// longTrip is the round trip from which a connection that takes losses for a full path wants help until it has shown that
	// it needs none: finding its rate takes seconds, and a single loss ends that.
	longTrip = 100 * time.Millisecond
)

// observe takes what the kernel says now and how many bytes were acknowledged so far.
func (e *pathEstimate) observe(p transport.Path, arrived int, now time.Time) {
	sent, d := p.Sent-e.last.Sent, now.Sub(e.since)
	slow := e.full && float64(arrived-e.arrived) < slowLink*d.Seconds()
	if !e.since.IsZero() && (d < pathInterval || !slow && sent < pathSample && d < 4*pathInterval) {
		return
	}
	calm := p.RTT < p.LeastRTT+p.LeastRTT/10+2*time.Millisecond
	switch {
	case e.since.IsZero():
		e.help = e.lossBased && p.LeastRTT >= longTrip
	case slow: // TCP that starts is faster after two intervals, on most paths
		e.bad, e.good = e.bad+2, 0
	case calm && float64(p.Resent-e.last.Resent) > lossy*float64(sent):
		e.bad, e.good = e.bad+1, 0
		if e.lossBased {
			e.bad++
		}
	default:
		e.bad, e.good = 0, e.good+1
	}
	if e.bad >= badIntervals {
		e.help = true
	} else if e.good >= goodIntervals {
		e.help = false
	}
	e.since, e.last, e.arrived, e.full = now, p, arrived, false
}

// wantsHelp reports whether other links should help; they do where the kernel tells nothing.
func (e *pathEstimate) wantsHelp() bool { return e.help || e.last.Sent == 0 }
