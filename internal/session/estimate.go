package session

import "time"

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
