package session

import (
	"testing"
	"time"
)

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
