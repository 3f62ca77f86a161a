package session

import (
	"testing"
	"time"
)

// A link that was swallowed for long is suspected as soon as before; one whose path has become slow is not for ever.
func TestPatienceAfterSilence(t *testing.T) {
	steady := func() *Link {
		l := &Link{}
		l.rtt.seed(100 * time.Millisecond)
		for range 50 {
			l.sample(100*time.Millisecond, false)
		}
		return l
	}
	l := steady()
	l.sample(20*time.Second, true)
	if p := l.patience(); p > time.Second {
		t.Errorf("after a silence of 20 s the next is borne for %v", p)
	}
	l = steady()
	n := 0
	for ; l.patience() < time.Second; n++ {
		l.sample(time.Second, true)
	}
	if n > 3 {
		t.Errorf("that the path takes a second now is known after %d samples", n)
	}
	l = &Link{} // nothing was measured before
	l.rtt.seed(100 * time.Millisecond)
	l.sample(20*time.Second, true)
	if p := l.patience(); p > 3*time.Second {
		t.Errorf("the first sample came late, and silence is borne for %v", p)
	}
}
