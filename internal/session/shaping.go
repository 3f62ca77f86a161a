package session

import (
	crand "crypto/rand"
	"math/rand/v2"
	"time"

	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// This is where package shape has its say. It is asked about writes that hold a stream's beginning, by whoever fills them,
// and about the moments at which a stream begins; nothing else knows of it, and bulk passes it by.

// beginning counts a stream's first pieces.
type beginning struct {
	sent    int // pieces that were given to links
	bytes   int // of those
	answers int // pieces that came and were acknowledged at once
}

func newShaper(cfg Config) *shape.Shaper {
	var seed [32]byte
	crand.Read(seed[:])
	return shape.New(cfg.Shape, cfg.Role == Client, rand.New(rand.NewChaCha8(seed)))
}

// begins notes that the batch holds f, if it is of a stream's beginning.
func (b *batch) begins(f *frame) {
	st := f.stream
	if f.typ != wire.TypeData || st == nil || st.begun.sent >= shape.Pieces || st.begun.bytes >= shape.Beginning {
		return
	}
	st.begun.sent++
	st.begun.bytes += len(f.buf)
	if b.nth == 0 || st.begun.sent < b.nth {
		b.nth = st.begun.sent
	}
}

// shapeLocked adds to the batch what makes it look like something else.
func (l *Link) shapeLocked(b *batch, now time.Time) {
	s := l.s
	s.shaper.Carried(b.size)
	n := l.padding
	l.padding = 0
	l.burst += b.size + n
	if b.nth > 0 {
		n += s.shaper.Pad(l.burst, b.nth-1)
	}
	if b.nth == 1 && s.dummyAt.IsZero() {
		if after, n := s.shaper.Dummy(l.rtt.smoothed); n > 0 {
			s.dummyAt, s.dummyLen = now.Add(after), n
			s.armLocked(s.dummyAt)
		}
	}
	if n >= wire.HeaderLen {
		b.small = wire.AppendPadding(b.small, n)
		b.size += n
		b.closeSmall(0)
	}
}

// dummyPing is the number of a PING that is sent for its looks alone: its PONG is nobody's.
const dummyPing = 0

// answerLocked acknowledges a piece of a stream's beginning at once: so that a watcher sees an answer after the link's round
// trip, and not only after that to the site.
func (l *Link) answerLocked(st *Stream) {
	s := l.s
	if s.shaper == nil || st.recvOff >= shape.Beginning {
		return
	}
	if pad, yes := s.shaper.Answer(st.begun.answers); yes {
		st.begun.answers++
		l.padding += pad
		l.ackNow = true
		l.kickLocked()
	}
}

// holdLocked puts off sending what was just queued until more is, or for a moment. It reports false if that is not wanted.
func (s *Session) holdLocked() bool {
	d := s.shaper.HoldOpen()
	if d == 0 {
		return false
	}
	now := time.Now()
	if s.heldUntil.IsZero() { // else what waits longest has to go then
		s.heldUntil = now.Add(d)
	}
	s.armLocked(s.heldUntil)
	return true
}

// shapeTickLocked sends what was held for long enough, and dummies.
func (s *Session) shapeTickLocked(now time.Time) {
	if !s.dummyAt.IsZero() && !now.Before(s.dummyAt) {
		s.dummyAt = time.Time{}
		if l := s.pickLocked(false); l != nil && len(l.outbox) < maxOutbox {
			l.outbox = wire.AppendPing(l.outbox, dummyPing)
			l.padding += s.dummyLen
			l.kickLocked()
		}
	}
	if !s.heldUntil.IsZero() && !now.Before(s.heldUntil) {
		s.heldUntil = time.Time{}
		s.kickLocked()
	}
	for _, at := range [...]time.Time{s.dummyAt, s.heldUntil} {
		if !at.IsZero() {
			s.armLocked(at)
		}
	}
}

// heardLocked reports whether bytes have come on the stream.
func (st *Stream) heardLocked() bool { return st.recvOff > 0 || len(st.segments) > 0 }
