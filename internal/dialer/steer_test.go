package dialer

import (
	"path/filepath"
	"testing"
	"time"
)

var steered = []Way{{"https", "a:443"}, {"quic", "a:443"}, {"websocket", "w:443"}, {"dns", "t.example"}}

// A way that was found blocked is tried last, be it the best that there is, and not beside one that may work.
func TestBlocked(t *testing.T) {
	w := New(steered)
	w.Lived(0, start.Add(-time.Hour))
	w.Steer([]Found{{Way: steered[0], Blocked: true}, {Way: steered[1]}, {Way: Way{"pigeon", "p:1"}, Blocked: true}}, start)
	next(t, "at first", w, start, 1, nil)
	next(t, "a second", w, start, 2, nil, Dial{Way: 1})
	next(t, "a third", w, start, 3, nil, Dial{Way: 1}, Dial{Way: 2})
	all := []Dial{{Way: 1}, {Way: 2}, {Way: 3}}
	next(t, "all others are under way", w, start, 1, nil, all...)
	for i := range all {
		all[i].Slow = true
	}
	next(t, "all others are slow", w, start, 0, nil, all...)
	next(t, "a standby", w, start, 1, []Link{{Way: 1}, {Way: 2}})
	for range mostFailures {
		for i := range steered[1:] {
			w.Failed(i+1, start, Unreachable)
		}
	}
	next(t, "all others fail", w, start, 0, nil)
	next(t, "a day later", w, start.Add(foundFor), 0, nil)
}

// It is noticed when what was found blocked works again.
func TestBlockedNoMore(t *testing.T) {
	w := New(steered)
	w.Steer([]Found{{Way: steered[0], Blocked: true}, {Way: steered[1], Blocked: true}}, start)
	links := []Link{{Way: 2}}
	w.Explore(start, links, nil)
	way, ok := w.Explore(start.Add(exploreFirst), links, nil)
	if !ok || way > 1 {
		t.Errorf("while a worse one carries, %v is tried, %v", w.Way(way), ok)
	}
	w.Worked(0, start.Add(exploreFirst))
	next(t, "it worked", w, start.Add(exploreFirst), 0, nil)
	w.Steer([]Found{{Way: steered[0], Blocked: true}}, start)
	w.Forget()
	next(t, "the machine has slept", w, start, 2, nil)
	w.Steer([]Found{{Way: steered[0]}}, start)
	next(t, "it was found good", w, start, 0, nil)
}

// What works badly comes after what is good, though it has carried much, and before the worst.
func TestSlow(t *testing.T) {
	w := New(steered)
	w.Steer([]Found{{Way: steered[0], Slow: true}, {Way: steered[1], Slow: true}}, start)
	w.Lived(0, start)
	next(t, "at first", w, start, 2, nil)
	next(t, "the good one is under way", w, start, 0, nil, Dial{Way: 2})
	next(t, "a standby of the only good way", w, start, 0, []Link{{Way: 2}})
	if way, ok := w.Explore(start.Add(time.Hour), []Link{{Way: 2}}, nil); ok {
		t.Errorf("%v is tried while a good one carries", w.Way(way))
	}
	slow := New([]Way{{"https", "a:443"}, {"dns", "t.example"}})
	slow.Steer([]Found{{Way: Way{"https", "a:443"}, Slow: true}}, start)
	slow.Explore(start, []Link{{Way: 1}}, nil)
	if _, ok := slow.Explore(start.Add(exploreFirst), []Link{{Way: 1}}, nil); !ok {
		t.Error("what is slow is not tried again while the worst carries")
	}
	two := New([]Way{{"https", "a:443"}, {"https", "b:443"}, {"quic", "a:443"}})
	two.Steer([]Found{{Way: Way{"quic", "a:443"}, Slow: true}}, start)
	next(t, "a standby", two, start, 1, []Link{{Way: 0}})
	w.Steer([]Found{{Way: steered[0]}}, start)
	next(t, "it was found good", w, start, 0, nil)
}

// Where an address blocks for a while it is left alone so long, and no longer than a firewall was ever seen to.
func TestFoundUntil(t *testing.T) {
	w := New(steered)
	w.Steer([]Found{{Way: steered[0], Until: start.Add(time.Minute)}, {Way: steered[1], Until: start.Add(24 * time.Hour)}, {Way: steered[2]}}, start)
	next(t, "meanwhile", w, start, 2, nil)
	next(t, "then", w, start.Add(time.Minute), 0, nil)
	if left := w.Known(1).Until.Sub(start); left != residuals[len(residuals)-1] {
		t.Errorf("left alone for %v", left)
	}
	w.Steer([]Found{{Way: steered[0]}, {Way: steered[1]}}, start)
	if w.Known(0).Until.Sub(start) != time.Minute || w.Known(2) != (Known{}) {
		t.Errorf("after it was found again: %+v, %+v", w.Known(0), w.Known(2))
	}
}

// What was found is remembered for the network, and not if a clock was wrong.
func TestFoundIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	m, err := OpenMemory(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := New(steered)
	w.Steer([]Found{{Way: steered[0], Blocked: true}, {Way: steered[1], Slow: true}}, start)
	if !w.Changed() {
		t.Error("there is nothing to keep")
	}
	if err := m.Keep("home", w, start); err != nil {
		t.Fatal(err)
	}
	if m, err = OpenMemory(path, nil); err != nil {
		t.Fatal(err)
	}
	m.Recall("home", w, start.Add(time.Minute))
	if !w.Blocked(0, start) || !w.Slow(1, start) {
		t.Errorf("remembered %+v and %+v", w.Known(0), w.Known(1))
	}
	m.Recall("home", w, start.Add(-time.Minute))
	if w.Known(0) != (Known{}) || w.Known(1) != (Known{}) {
		t.Errorf("before it was found: %+v and %+v", w.Known(0), w.Known(1))
	}
	m.Recall("cafe", w, start)
	if w.Blocked(0, start) {
		t.Error("it is so elsewhere, too")
	}
}
