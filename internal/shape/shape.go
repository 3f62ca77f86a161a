// Package shape decides how what begins inside of a link looks from outside: how long the client's first flights are, what
// is held for company, what is answered at once, and what is sent that means nothing. It knows sizes and a budget; when to
// ask, and what bytes they are, the session knows.
//
// A conversation in TLS begins with flights whose lengths and order give it away, also within other TLS (Xue et al., USENIX
// Security 2024): a hello of some 300, 600 or 1900 bytes, certificates of 2 to 6 KB, a short flight with the Finished and a
// request, an answer. Here it becomes:
//
//	client    OPEN, hello ───>  together, and as long as several requests at once: more than any hello
//	gateway      <─── ACK       at once, as long as a small answer: the round trip to the site does not show
//	gateway      <─── OPENED, certificates    together
//	client    Finished, request ───>  as long again as several requests
//	both      <──>              at High: requests that nobody made, and answers, at random moments in between
//
// What is added is a share of what is carried, so that it is bounded whatever the traffic: see Budget. It hides from models
// of handshakes. Whoever learns what links of Godwit look like can still tell them; docs/shaping.md has figures.
package shape

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Level is how much may be spent. Both ends of a session should have the same one.
type Level uint8

// The levels.
const (
	Off Level = iota
	Low
	High
)

var names = [...]string{"off", "low", "high"}

func (l Level) String() string {
	if int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// ParseLevel reads a level's name; the empty one is Low.
func ParseLevel(name string) (Level, error) {
	if name == "" {
		return Low, nil
	}
	for i, n := range names {
		if n == name {
			return Level(i), nil
		}
	}
	return Off, fmt.Errorf("%.20q is none of off, low, high", name)
}

// Of reads a level from the number that an end said; one that is not known is the highest.
func Of(n uint64) Level { return Level(min(n, uint64(High))) }

// Budget is the most that a level costs.
type Budget struct {
	// Share is how many bytes each end may add, of a hundred that cross either way.
	Share int
	// Advance is how many bytes each end may add before it has carried anything, and the most it can save up.
	Advance int
	// Delay is the longest that anything is held.
	Delay time.Duration
}

// Budget returns what the level may spend.
func (l Level) Budget() Budget {
	switch l {
	case Low:
		return Budget{Share: 5, Advance: 16 << 10, Delay: 30 * time.Millisecond}
	case High:
		return Budget{Share: 20, Advance: 64 << 10, Delay: 30 * time.Millisecond}
	}
	return Budget{}
}

const (
	// Beginning is how many bytes of a stream are its beginning, each way, and Pieces how many of what the application writes.
	Beginning = 16 << 10
	Pieces    = 8
	// padded is how many pieces of the client's are padded: its hello, its Finished, its request.
	padded = 3
	// opening is how long OPEN is held for the application's first bytes, which follow at once if it speaks first.
	opening = 10 * time.Millisecond
)

// Shaper is one end's decisions. It is not safe for concurrent use.
type Shaper struct {
	level  Level
	client bool
	rng    *rand.Rand
	budget Budget
	// credit is how many hundredths of bytes may be spent.
	credit int
}

// New makes the shaper of a session's end; nil, which does nothing, if the level is Off. The generator draws the lengths: a
// watcher must not be able to guess it.
func New(level Level, client bool, rng *rand.Rand) *Shaper {
	if level == Off {
		return nil
	}
	b := level.Budget()
	return &Shaper{level: level, client: client, rng: rng, budget: b, credit: 100 * b.Advance}
}

// Carried notes that n bytes crossed, either way, without what was added.
func (s *Shaper) Carried(n int) {
	if s != nil {
		s.credit = min(s.credit+n*s.budget.Share, 100*s.budget.Advance)
	}
}

// spend returns n if there is credit for it, and else 0: a length that is cut short is one that can be told.
func (s *Shaper) spend(n int) int {
	if n < Least || 100*n > s.credit {
		return 0
	}
	s.credit -= 100 * n
	return n
}

// Least is how many bytes are added at least, if any.
const Least = 16

func (s *Shaper) between(low, high int) int { return low + s.rng.IntN(high-low+1) }

// manyRequests is more than any hello has, by more than the models forgive.
const manyRequests = 3100

// requests is a length of several requests at once.
func (s *Shaper) requests() int { return manyRequests + min(int(s.rng.ExpFloat64()*1200), 5000) }

// Pad is how many bytes to add to what the client sends with a stream's nth piece in it, counted from 0, when size bytes
// have been sent with it since anything came: a watcher sees them as one.
func (s *Shaper) Pad(size, nth int) int {
	if s == nil || !s.client || nth >= padded || size >= manyRequests {
		return 0
	}
	return s.spend(s.requests() - size)
}

// Answer reports whether this end acknowledges the beginning of a stream at once, and how many bytes to add to that.
func (s *Shaper) Answer(nth int) (pad int, yes bool) {
	if s == nil || s.client || nth >= Pieces {
		return 0, false
	}
	return s.spend(s.between(Least, 220)), true
}

// Dummy is how long after a stream's first flight to send a request that nobody made, and how long that is; zero if none is
// to be sent. It breaks what goes up, down, up and down in a handshake.
func (s *Shaper) Dummy(roundTrip time.Duration) (after time.Duration, n int) {
	if s == nil || !s.client || s.level != High {
		return 0, 0
	}
	roundTrip = min(max(roundTrip, 10*time.Millisecond), 500*time.Millisecond)
	return time.Duration((0.2 + 1.8*s.rng.Float64()) * float64(roundTrip)), s.spend(s.requests())
}

// Reply is how many bytes to add to the answer to such a request.
func (s *Shaper) Reply() int {
	if s == nil || s.client || s.level != High {
		return 0
	}
	return s.spend(s.between(Least, 1300))
}

// HoldOpen is how long to hold a stream's OPEN (of a client) or the answer to it (of a gateway, which has the stream's first
// bytes already, so that nobody waits for it) for the bytes that follow.
func (s *Shaper) HoldOpen() time.Duration {
	switch {
	case s == nil:
		return 0
	case s.client:
		return opening
	}
	return s.budget.Delay
}
