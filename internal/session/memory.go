package session

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// What a session holds of the process's pool: what is retained until it is acknowledged, whether there is room for more, and
// what is given up of a session that sleeps.

// asleep reports whether the session has had no link for longer than the grace time, and since when.
func (s *Session) asleep() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detached, s.err == nil && !s.detached.IsZero()
}

// trim cuts a session without links down to MaxSleeperMemory: the streams that hold most are reset first.
func (s *Session) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.detached.IsZero() || s.trimmed {
		return
	}
	s.trimmed = true
	holds := make(map[*Stream]int)
	s.ring.each(func(f *frame) {
		if f.stream != nil {
			holds[f.stream] += f.cost()
		}
	})
	for _, st := range s.streams {
		holds[st] += st.queuedCost + st.reassembly
	}
	for s.held+s.reassembly > MaxSleeperMemory && len(holds) > 0 {
		var worst *Stream
		for st, n := range holds {
			if worst == nil || n > holds[worst] || n == holds[worst] && st.id < worst.id {
				worst = st
			}
		}
		delete(holds, worst)
		worst.resetLocked(flow.CodeMemory)
		s.ring.each(func(f *frame) {
			if f.stream == worst {
				s.voidLocked(f)
			}
		})
	}
}

// voidLocked replaces a chunk that no longer matters, keeping its number.
func (s *Session) voidLocked(f *frame) {
	if f.writing > 0 || f.typ != wire.TypeData {
		return
	}
	s.uncharge(f)
	putBuffer(f.buf)
	f.buf = wire.AppendVoid(nil)
	wire.PutSeq(f.buf, f.seq)
	f.typ, f.stream = wire.TypeVoid, nil
	s.charge(f)
}

func (s *Session) charge(f *frame) {
	s.held += f.cost()
	s.cfg.Pool.charge(f.cost())
}

func (s *Session) uncharge(f *frame) {
	s.held -= f.cost()
	s.cfg.Pool.charge(-f.cost())
}

// releaseLocked gives a frame's memory back once it is acknowledged and nobody needs its bytes.
func (s *Session) releaseLocked(f *frame) {
	if !f.acked || f.writing > 0 || f.waiting || f.buf == nil {
		return
	}
	s.uncharge(f)
	putBuffer(f.buf)
	f.buf, f.stream, f.link = nil, nil, nil
	s.wakeMemoryLocked()
}

// roomLocked reports whether more may be retained. A session that holds little always may a little more, so that one
// that works is not stopped by others that hoard.
func (s *Session) roomLocked() bool {
	mine := s.held + s.reassembly
	if mine >= MaxSessionMemory-wire.MaxFrame {
		return false
	}
	if s.cfg.Pool.free() > wire.MaxFrame || mine < wire.MaxFrame {
		return true
	}
	s.cfg.Pool.askRelief()
	return false
}

// wakeMemoryLocked wakes streams that wait for memory, the one that waits longest first.
func (s *Session) wakeMemoryLocked() {
	for s.memWait.len() > 0 && s.roomLocked() {
		st := s.memWait.pop()
		st.waitsForMemory = false
		st.wakeSendLocked()
		if s.memWait.len() > 0 && s.held+s.reassembly > MaxSessionMemory/2 {
			return // one at a time while memory is short: the next release wakes the next
		}
	}
}
