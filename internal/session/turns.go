package session

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/wire"
)

// Streams with bytes to send take turns by deficit round robin, those that send little before those that send much, so
// that a keystroke does not wait for every download's turn (after FQ-CoDel's scheduler, RFC 8290 §4.2). Only the latter
// are bulk, which some links do not take (see rolesLocked).

// quantum is how many bytes a stream may send per turn.
const quantum = 16 << 10

// turn says in which list a stream stands.
type turn uint8

const (
	noTurn turn = iota
	freshTurn
	backlogTurn
)

// streamList is a queue of streams; one that has left is skipped when its turn comes.
type streamList struct{ q fifo[*Stream] }

func (l *streamList) empty() bool { return l.q.len() == 0 }

// joinTurnLocked puts a stream that has n more bytes to send in line.
func (s *Session) joinTurnLocked(st *Stream, n int) {
	heavy := st.heavyLocked(n)
	if st.turn != noTurn {
		return
	}
	st.deficit = quantum
	if heavy {
		st.turn = backlogTurn
		s.backlog.q.push(st)
	} else {
		st.turn = freshTurn
		s.fresh.q.push(st)
	}
}

const (
	// heavyTime and heavyBytes tell bulk: a stream that sends so much within so long is never fresh, also where its
	// link is so fast that nothing waits.
	heavyTime  = 100 * time.Millisecond
	heavyBytes = 64 << 10
)

// heavyLocked counts n bytes of the stream and reports whether it is bulk.
func (st *Stream) heavyLocked(n int) bool {
	now := time.Now()
	if d := now.Sub(st.burstAt); d > heavyTime {
		st.lastBurst = st.burst
		if d > 2*heavyTime {
			st.lastBurst = 0
		}
		st.burst, st.burstAt = 0, now
	}
	st.burst += n
	return max(st.burst, st.lastBurst) > heavyBytes
}

func (s *Session) leaveTurnLocked(st *Stream) { st.turn = noTurn }

// nextChunkLocked takes the frame whose turn it is, or nil if no stream has any; without bulk, if no fresh one has.
func (s *Session) nextChunkLocked(bulk bool) *frame {
	for {
		list, in := &s.fresh, freshTurn
		if list.empty() && bulk {
			list, in = &s.backlog, backlogTurn
		}
		if list.empty() {
			return nil
		}
		st := list.q.first()
		if st.turn != in { // it left, or stands in the other list
			list.q.pop()
			continue
		}
		if st.deficit <= 0 {
			list.q.pop()
			st.deficit += quantum
			st.turn = backlogTurn
			s.backlog.q.push(st)
			continue
		}
		if st.queue.len() == 0 {
			list.q.pop()
			st.turn = noTurn
			continue
		}
		f := st.queue.pop()
		st.deficit -= len(f.buf)
		st.queued -= len(f.buf)
		st.queuedCost -= f.cost()
		if f.typ == wire.TypeFin {
			st.sendDone = true
			st.finishLocked()
		}
		if st.queued < streamQueue/2 {
			st.wakeSendLocked()
		}
		return f
	}
}
