package session

import "github.com/godwit-vpn/godwit/internal/wire"

// Streams with bytes to send take turns by deficit round robin; one that was silent goes first, once, so that a
// keystroke does not wait for every download's turn (FQ-CoDel's scheduler, RFC 8290 §4.2).

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

func (s *Session) joinTurnLocked(st *Stream) {
	if st.turn == noTurn {
		st.turn = freshTurn
		st.deficit = quantum
		s.fresh.q.push(st)
	}
}

func (s *Session) leaveTurnLocked(st *Stream) { st.turn = noTurn }

// nextChunkLocked takes the frame whose turn it is, or nil if no stream has any.
func (s *Session) nextChunkLocked() *frame {
	for {
		list, in := &s.fresh, freshTurn
		if list.empty() {
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
			if in == freshTurn { // it does not become fresh again before the others had their turn
				st.turn = backlogTurn
				s.backlog.q.push(st)
			} else {
				st.turn = noTurn
			}
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
