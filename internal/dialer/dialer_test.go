package dialer

import (
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

var four = []Way{{"https", "a:443"}, {"https", "b:443"}, {"quic", "a:443"}, {"http", "a:80"}, {"dns", "t.example"}}

// next fails the test if another way is chosen.
func next(t *testing.T, what string, w *Ways, now time.Time, want int, links []Link, dials ...Dial) time.Time {
	t.Helper()
	got, at := w.Next(now, links, dials)
	if got != want {
		t.Errorf("%s: %v, want %v", what, w.Way(got), w.Way(want))
	}
	return at
}

func TestNext(t *testing.T) {
	w := New(four)
	next(t, "at first", w, start, 0, nil)
	next(t, "while the first is dialled", w, start, 2, nil, Dial{Way: 0})
	next(t, "while the first is slow", w, start, 2, nil, Dial{Way: 0, Slow: true})
	next(t, "while all of the best class are slow", w, start, 3, nil, Dial{Way: 0, Slow: true}, Dial{Way: 2, Slow: true},
		Dial{Way: 1, Slow: true})
	next(t, "a second link", w, start, 2, []Link{{Way: 0}})
	next(t, "a second link to the other address", w, start, 2, []Link{{Way: 1}})
	next(t, "a third", w, start, 1, []Link{{Way: 0}, {Way: 2}})
	next(t, "the first is silent", w, start, 1, []Link{{Way: 0, Suspected: true}})
	w.Failed(0, start, Unreachable)
	next(t, "the first failed", w, start, 1, nil)
	w.Failed(1, start, Unreachable)
	w.Failed(2, start, Unreachable)
	next(t, "those of the best class failed once", w, start, 0, nil)
	w.Failed(0, start, Unreachable)
	w.Failed(1, start, Unreachable)
	w.Failed(2, start, Unreachable)
	next(t, "they failed twice, as much as the next class is worse", w, start, 0, nil)
	w.Failed(0, start, Unreachable)
	w.Failed(1, start, Unreachable)
	w.Failed(2, start, Unreachable)
	next(t, "they failed more than that", w, start, 3, nil)
	next(t, "much later", w, start.Add(time.Hour), 0, nil)
	w.Lived(1, start)
	next(t, "one lived", w, start, 1, nil)
	w.Forget()
	next(t, "after sleep, the one that worked last", w, start, 1, nil)
}

// A way whose link was struck when it had carried much, however young, is gone on by before those that freeze at once; but not
// before one of its kind that nothing is known against.
func TestCarried(t *testing.T) {
	w := New([]Way{{"https", "a:443"}, {"quic", "a:443"}, {"relay", "r:443"}})
	w.Worked(2, start)
	w.Broke(2, start, false)
	next(t, "others are fresh", w, start, 0, []Link{{Way: 2, Suspected: true}})
	w.Worked(0, start)
	w.Broke(0, start, true)
	w.Worked(1, start)
	w.Broke(1, start, true)
	links := []Link{{Way: 0, Suspected: true}, {Way: 1, Suspected: true}, {Way: 2, Suspected: true}}
	next(t, "others froze at once", w, start, 2, links)
	w.Broke(2, start, true)
	w.Broke(2, start, true)
	next(t, "it freezes at once, too", w, start, 0, links[2:])
}

// A way beside which another carried many times as much is dialled after that one, while it counts; as a standby it is as good
// as before, and it still comes before a worse kind.
func TestOutdone(t *testing.T) {
	w := New([]Way{{"https", "a:443"}, {"quic", "a:443"}, {"websocket", "a:443"}})
	for i := range 2 {
		w.Lived(i, start)
	}
	w.Outdone(0, 1, start)
	next(t, "quic carried more", w, start, 1, nil)
	next(t, "a standby is sought", w, start, 0, []Link{{Way: 1}})
	w.Lived(0, start)
	w.Forget()
	next(t, "that it is let be, or the machine slept, changes nothing", w, start, 1, nil)
	for range 2 {
		w.Failed(1, start, Unreachable)
	}
	next(t, "quic is unreachable now", w, start, 0, nil)
	w.Lived(1, start)
	next(t, "it is there again", w, start, 1, nil)
	w.Outdone(1, 0, start)
	next(t, "https carried more", w, start, 0, nil)
	w.Outdone(0, 1, start)
	next(t, "a day later", w, start.Add(outdoneFor), 0, nil)
}

// Where links freeze soon after they begin, another kind of way is left to carry, and is not given up when it is struck once.
func TestFreezes(t *testing.T) {
	w := New([]Way{{"https", "a:443"}, {"https", "b:443"}, {"relay", "r:443"}})
	for range 2 {
		w.Worked(0, start)
		w.Broke(0, start, true)
		w.Worked(1, start)
		w.Broke(1, start, true)
	}
	next(t, "the others freeze", w, start, 2, nil)
	w.Lived(2, start)
	w.Broke(2, start, false)
	next(t, "the relay was struck", w, start, 2, nil)
	fresh := New([]Way{{"https", "a:443"}, {"quic", "a:443"}, {"relay", "r:443"}})
	fresh.Broke(0, start, true)
	fresh.Failed(1, start, Unreachable)
	fresh.Lived(2, start)
	fresh.Broke(2, start, false)
	next(t, "the relay that carried was struck, and nothing else ever carried", fresh, start, 2, nil)
	fresh.Failed(2, start, Unreachable)
	fresh.Failed(2, start, Unreachable)
	next(t, "it does not come back", fresh, start, 1, nil)
}

// Whatever strikes one link is not to strike the standby: that it works, or has failed once, is no reason to have both there.
func TestStandbyIsElsewhere(t *testing.T) {
	w := New(four[:2])
	w.Worked(0, start)
	next(t, "no link", w, start, 0, nil)
	next(t, "one that works", w, start, 1, []Link{{Way: 0}})
	w.Worked(1, start)
	w.Broke(0, start, false)
	next(t, "no link, one broke", w, start, 1, nil)
	next(t, "one link, the other way broke", w, start, 0, []Link{{Way: 1}})
	next(t, "one link that is silent, the other way broke", w, start, 1, []Link{{Way: 1, Suspected: true}, {Way: 0, Suspected: true}})
	w.Failed(0, start, Unreachable)
	next(t, "one link, the other way does not come back", w, start, 1, []Link{{Way: 1}})
}

// A way that is struck is left alone, while others are tried, and all of them, when all are.
func TestResiduals(t *testing.T) {
	w := New(four[:2])
	now := start
	for n, least := range []time.Duration{0, 90 * time.Second, 120 * time.Second, 180 * time.Second, 420 * time.Second, 420 * time.Second} {
		w.Failed(0, now, Struck)
		if left := w.Known(0).Until.Sub(now); n > 0 && (left < least || left > least*9/8) || n == 0 && left > 0 {
			t.Errorf("struck %d times in a row: left alone for %v, not %v", n+1, left, least)
		}
		now = now.Add(time.Second)
	}
	if at := next(t, "the other one", w, now, 1, nil); at.After(now) {
		t.Errorf("the other one waits for %v", at.Sub(now))
	}
	w.Failed(1, now, Struck)
	w.Failed(1, now, Struck)
	if at := next(t, "the one that is free first", w, now, 1, nil); at.Sub(now) < 90*time.Second {
		t.Errorf("it is dialled in %v", at.Sub(now))
	}
	w.Worked(1, now)
	if at := next(t, "it worked all the same", w, now, 1, nil); at.After(now) {
		t.Errorf("it is left alone for %v", at.Sub(now))
	}
	// Links that are frozen again and again were let through each time: there is nothing to wait for.
	for range 10 {
		w.Worked(1, now)
		w.Broke(1, now, true)
	}
	if until := w.Known(1).Until; until.After(now) {
		t.Errorf("a way that is answered on is left alone for %v", until.Sub(now))
	}
	one := New(four[:1])
	for range 20 {
		one.Failed(0, now, Unreachable)
	}
	if at := next(t, "the only one", one, now, 0, nil); at.After(now) {
		t.Errorf("where nobody answers the network may be down, and it waits %v", at.Sub(now))
	}
	if one.Patience(0, now) != 0 {
		t.Error("the only way is hurried")
	}
}

func TestPatience(t *testing.T) {
	w := New(four)
	for _, want := range []time.Duration{4, 8, 16, 32, 32} {
		if p := w.Patience(0, start); p != want*time.Second {
			t.Errorf("%v, want %v s", p, int(want))
		}
		w.Failed(0, start, Unreachable)
	}
}

// Where only the last class serves, ways that were struck often are tried again sooner than a firewall may remember.
func TestExploreFromTheLast(t *testing.T) {
	for _, c := range []struct {
		have   int
		within time.Duration
		want   bool
	}{{4, 85 * time.Second, false}, {4, 130 * time.Second, true}, {3, 400 * time.Second, false}, {3, 500 * time.Second, true}} {
		w := New(four)
		for i := range 3 {
			for range 8 {
				w.Failed(i, start, Struck)
			}
		}
		w.Failed(3, start, Unreachable)
		found := false
		for s := time.Duration(0); s < c.within; s += time.Second {
			i, ok := w.Explore(start.Add(s), []Link{{Way: c.have}}, nil)
			found = found || ok && i < 3
		}
		if found != c.want {
			t.Errorf("with way %d, within %v: %v", c.have, c.within, found)
		}
	}
}

// While something worse serves, the better is tried again, ever more rarely, and not before it is free.
func TestExplore(t *testing.T) {
	w := New(four)
	dns := []Link{{Way: 4}}
	var at []time.Duration
	var tried []int
	for s := time.Duration(0); s < 3*time.Hour; s += time.Second {
		if i, ok := w.Explore(start.Add(s), dns, nil); ok {
			at, tried = append(at, s), append(tried, i)
			w.Failed(i, start.Add(s), Unreachable)
		}
	}
	if len(at) < 5 || len(at) > 8 || at[0] != exploreFirst {
		t.Errorf("explored at %v", at)
	}
	if slices.Sort(tried); len(slices.Compact(tried)) < 4 {
		t.Errorf("only %v were tried", tried)
	}
	if _, ok := w.Explore(start.Add(24*time.Hour), []Link{{Way: 4}, {Way: 0}}, nil); ok {
		t.Error("explored though there is nothing better")
	}
	if _, ok := w.Explore(start.Add(24*time.Hour), nil, nil); ok {
		t.Error("explored without any link")
	}
	if !w.Better(0, 3) || w.Better(3, 0) || w.Better(0, 2) {
		t.Error("classes are not in order")
	}
}
