package dns

import (
	"errors"
	"io"
	"time"
)

// session is one client's.
type session struct {
	*conn
	server <-chan struct{} // closed when the name server is

	// Guarded by conn.mu.
	timer   *time.Timer
	seen    time.Time // when it last asked
	ended   time.Time // when there was nothing more to carry; zero before
	closing time.Time // when Close was seen
	newest  uint16    // nonce
	recent  [64]*asked
	waiting []*asked // the oldest first
}

// asked is a query that came, perhaps several times.
type asked struct {
	nonce uint16
	room  int
	plain []byte        // the answer
	ready chan struct{} // closed when there is one
}

// maxWaiting is how many queries of a session are held back.
const maxWaiting = 32

var errIdle = errors.New("the client asks no more")

func newSession(segment int, zone string, server <-chan struct{}, now time.Time) *session {
	s := &session{conn: newConn(segment, gatewayRoom, mostUnsent, addr(zone), addr(zone)), server: server, seen: now}
	s.kick = func() { s.serveLocked(time.Now()) }
	return s
}

// ask takes a query and returns the answer, when there is one or hold is over. It reports false for one that is too old
// to be a client's or a resolver's.
func (s *session) ask(q *query, room int, hold time.Duration, now time.Time) ([]byte, bool) {
	s.mu.Lock()
	a := s.recent[q.nonce%uint16(len(s.recent))]
	switch {
	case a == nil && int16(q.nonce-s.newest) > -int16(len(s.recent)), a != nil && int16(q.nonce-a.nonce) > 0:
		a = &asked{nonce: q.nonce, room: room, ready: make(chan struct{})}
		s.recent[q.nonce%uint16(len(s.recent))] = a
		if int16(q.nonce-s.newest) > 0 {
			s.newest = q.nonce
		}
		s.seen = now
		s.takeLocked(q, a, now)
	case a == nil || a.nonce != q.nonce:
		s.mu.Unlock()
		return nil, false
	}
	s.mu.Unlock()
	if hold > 0 {
		timer := time.NewTimer(hold)
		defer timer.Stop()
		select {
		case <-a.ready:
			return a.plain, true
		case <-timer.C:
		case <-s.server:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-a.ready:
	default:
		s.answerLocked(a, time.Now())
	}
	return a.plain, true
}

// takeLocked takes what a new query brings.
func (s *session) takeLocked(q *query, a *asked, now time.Time) {
	if q.kind == kindClose {
		s.endLocked(io.EOF)
		s.overLocked(now)
	}
	s.waiting = append(s.waiting, a)
	if len(q.packet) > 0 && s.ended.IsZero() {
		s.arq.input(q.packet) // what is none is left out
		s.wakeLocked()
	}
	s.serveLocked(now)
}

// serveLocked answers as many queries as there is something to say to.
func (s *session) serveLocked(now time.Time) {
	if s.closed && s.ended.IsZero() {
		if s.closing.IsZero() {
			s.closing = now
		}
		if !s.arq.unacked() || now.Sub(s.closing) > closeTime {
			s.overLocked(now)
		}
	}
	if s.ended.IsZero() {
		s.arq.update()
		s.wakeLocked()
	}
	for len(s.waiting) > 0 && (!s.ended.IsZero() || s.arq.pending(now) || len(s.waiting) > maxWaiting) {
		s.answerLocked(s.waiting[0], now)
	}
	wake := s.arq.wake()
	if s.ended.IsZero() && wake == 0 && s.closed {
		wake = time.Second
	}
	switch {
	case !s.ended.IsZero() || wake == 0:
		if s.timer != nil {
			s.timer.Stop()
		}
	case s.timer == nil:
		s.timer = time.AfterFunc(wake, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.serveLocked(time.Now())
		})
	default:
		s.timer.Reset(wake)
	}
}

// answerLocked answers a query that waits.
func (s *session) answerLocked(a *asked, now time.Time) {
	for i, w := range s.waiting {
		if w == a {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			break
		}
	}
	if !s.ended.IsZero() {
		a.plain = []byte{answerGone}
	} else {
		packet := s.arq.take(now, a.room)
		var flags byte
		if s.arq.ready(now) {
			flags = answerMore
		}
		a.plain = append([]byte{flags}, packet...)
	}
	close(a.ready)
}

// overLocked ends the session for its client.
func (s *session) overLocked(now time.Time) {
	if s.ended.IsZero() {
		s.ended = now
	}
}

// end ends it for the gateway.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
	s.overLocked(time.Now())
	s.serveLocked(time.Now())
}

// over reports whether the session can be forgotten, and ends it if its client has gone.
func (s *session) over(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.IsZero() && now.Sub(s.seen) > idleTime {
		s.endLocked(errIdle)
		s.overLocked(now)
		s.serveLocked(now)
	}
	return !s.ended.IsZero() && now.Sub(s.ended) > goneTime
}
