package session

import (
	"testing"
	"time"
)

// Where losses are taken for a full path, help is wanted on a long one until it turns out that none is needed, and a short
// one that loses wants it sooner than one whose controller bears losses.
func TestWantsHelp(t *testing.T) {
	now := time.Now()
	observe := func(e *pathEstimate, trip time.Duration, lost uint64) bool {
		now = now.Add(pathInterval)
		p := e.last
		p.RTT, p.LeastRTT, p.Sent, p.Resent = trip, trip, p.Sent+1000, p.Resent+lost
		e.observe(p, e.arrived+slowLink, now)
		return e.wantsHelp()
	}
	after := func(e *pathEstimate, trip time.Duration, lost uint64, want bool) (intervals int) {
		for ; observe(e, trip, lost) != want; intervals++ {
			if intervals > 20 {
				t.Fatalf("%v, %d of 1000 lost, loss-based %v: wants help: never %v", trip, lost, e.lossBased, want)
			}
		}
		return intervals
	}
	const long, short = 200 * time.Millisecond, 20 * time.Millisecond
	if n := after(&pathEstimate{lossBased: true}, long, 0, true); n != 0 {
		t.Errorf("on a long path help is wanted after %d intervals", n)
	}
	for _, e := range []*pathEstimate{{lossBased: true}, {}} {
		observe(e, long, 0)
		if n := after(e, long, 0, false); n > goodIntervals {
			t.Errorf("help is wanted for %d intervals without a loss", n)
		}
	}
	blind, bearing := after(&pathEstimate{lossBased: true}, short, 10, true), after(&pathEstimate{}, short, 10, true)
	if blind == 0 || blind >= bearing {
		t.Errorf("at 1 %% of losses help is wanted after %d intervals, and after %d where they are borne", blind, bearing)
	}
}

// A link that was swallowed for long is suspected as soon as before; one whose path has become slow is not for ever.
func TestPatienceAfterSilence(t *testing.T) {
	now := time.Now()
	pass := func(l *Link, trip time.Duration) {
		sent := now
		now = now.Add(trip)
		l.sample(sent, now, 0)
	}
	silence := func(l *Link, long time.Duration, answers int) { // to what was sent into it, one after the other
		l.borne = l.patience()
		sent := now
		now = now.Add(long)
		l.recovered = now
		for i := range answers {
			l.sample(sent.Add(long/2*time.Duration(i)), now.Add(time.Duration(i)*time.Millisecond), 0)
		}
	}
	steady := func() *Link {
		l := &Link{}
		l.rtt.seed(100 * time.Millisecond)
		for range 50 {
			pass(l, 100*time.Millisecond)
		}
		return l
	}
	l := steady()
	silence(l, 20*time.Second, 1)
	if p := l.patience(); p > time.Second {
		t.Errorf("after a silence of 20 s the next is borne for %v", p)
	}
	l = steady()
	for range 5 {
		silence(l, 20*time.Second, 2)
		for range 10 {
			pass(l, 100*time.Millisecond)
		}
		if p := l.patience(); p > time.Second {
			t.Errorf("after silences of 20 s the next is borne for %v", p)
		}
	}
	l = steady()
	n := 0
	for ; l.patience() < time.Second; n++ {
		silence(l, time.Second, 1)
	}
	if n > 3 {
		t.Errorf("that the path takes a second now is known after %d silences", n)
	}
	l = &Link{} // nothing was measured before
	l.rtt.seed(100 * time.Millisecond)
	silence(l, 20*time.Second, 1)
	if p := l.patience(); p > 3*time.Second {
		t.Errorf("the first sample came late, and silence is borne for %v", p)
	}
}
