package shape

import (
	"math/rand/v2"
	"testing"
	"time"
)

func newShaper(level Level, client bool) *Shaper {
	return New(level, client, rand.New(rand.NewPCG(1, 2)))
}

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Level{"": Low, "off": Off, "low": Low, "high": High} {
		if got, err := ParseLevel(name); err != nil || got != want {
			t.Errorf("%q is %v, %v", name, got, err)
		}
	}
	if _, err := ParseLevel("lower"); err == nil {
		t.Error("an unknown level was taken")
	}
	if Of(0) != Off || Of(1) != Low || Of(2) != High || Of(3) != High {
		t.Error("numbers of levels")
	}
	if Low.String() != "low" || Level(9).String() != "level 9" {
		t.Error("names of levels")
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	s := newShaper(Off, true)
	s.Carried(1000)
	if s.Pad(2000, 0) != 0 || s.HoldOpen() != 0 || s.Reply() != 0 {
		t.Error("something is shaped")
	}
	if _, yes := s.Answer(0); yes {
		t.Error("something is answered at once")
	}
	if _, n := s.Dummy(time.Second); n != 0 {
		t.Error("a dummy is sent")
	}
}

// Whatever a hello's length, what the client sends is longer than any, and no more than the pieces that matter are.
func TestPad(t *testing.T) {
	t.Parallel()
	for _, size := range []int{60, 330, 600, 1950, 2600} {
		for nth := range padded {
			s := newShaper(Low, true)
			if got := size + s.Pad(size, nth); got < manyRequests || got > manyRequests+5000 {
				t.Errorf("piece %d of %d bytes becomes %d", nth, size, got)
			}
		}
	}
	s := newShaper(High, true)
	if s.Pad(600, padded) != 0 || s.Pad(manyRequests, 0) != 0 || s.Pad(60000, 0) != 0 {
		t.Error("what needs it not is padded")
	}
	if newShaper(High, false).Pad(600, 0) != 0 {
		t.Error("the gateway pads as a client does")
	}
}

// What is added stays within the share, from any moment on.
func TestBudget(t *testing.T) {
	t.Parallel()
	for _, level := range []Level{Low, High} {
		for _, client := range []bool{true, false} {
			s, b := newShaper(level, client), level.Budget()
			added, carried := 0, 0
			for i := range 20000 {
				n := 20 + i%1500
				s.Carried(n)
				carried += n
				added += s.Pad(n, i%4)
				answer, _ := s.Answer(i % 4)
				_, dummy := s.Dummy(time.Second)
				added += answer + dummy + s.Reply()
				if added > b.Advance+carried*b.Share/100 {
					t.Fatalf("%v, client %v: %d bytes added to %d", level, client, added, carried)
				}
			}
			if added < carried*b.Share/200 {
				t.Errorf("%v, client %v: only %d bytes added to %d", level, client, added, carried)
			}
			s.Carried(1 << 40) // what is saved up is bounded
			if s.credit > 100*b.Advance {
				t.Errorf("%v: %d saved up", level, s.credit/100)
			}
		}
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	for _, level := range []Level{Low, High} {
		for _, client := range []bool{true, false} {
			if d := newShaper(level, client).HoldOpen(); d <= 0 || d > 30*time.Millisecond {
				t.Errorf("%v, client %v: held for %v", level, client, d)
			}
		}
	}
}

func TestDummy(t *testing.T) {
	t.Parallel()
	if _, n := newShaper(Low, true).Dummy(time.Second); n != 0 || newShaper(Low, false).Reply() != 0 {
		t.Error("low pays for dummies")
	}
	for range 100 {
		s := newShaper(High, true)
		after, n := s.Dummy(100 * time.Millisecond)
		if after < 20*time.Millisecond || after > 200*time.Millisecond || n < manyRequests {
			t.Errorf("a dummy of %d bytes after %v", n, after)
		}
		if after, _ = s.Dummy(time.Hour); after > time.Second {
			t.Errorf("a dummy after %v", after)
		}
		if n := newShaper(High, false).Reply(); n < Least {
			t.Errorf("an answer of %d bytes", n)
		}
	}
}
