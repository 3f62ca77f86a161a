package session

import (
	"errors"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// A gateway that is about to be replaced sends GOAWAY (draining) on all links of its sessions. The client then leaves
// the session: it opens nothing new in it and begins another one, which meets the new gateway, while the old one carries
// on until its streams have ended.
//
//	gateway: Drain ── GOAWAY ──> client: leaving ── no streams for a while, or the time is over ──> CLOSE
//	                                        └────── no link is left: nobody could make another ───> ended
//
// Both ends let go of such a session as soon as it has no link, rather than keep it: what is dialled now does not reach
// the process that knows it.

const (
	// leaveIdle is for how long a session that is being left must have had nothing to do before the client closes it: by
	// then the gateway has delivered what it had acknowledged.
	leaveIdle = 3 * time.Second
	// forsaken is after how long the gateway does so, whose client is gone then, or old.
	forsaken = 30 * time.Second
	// leaveLook is how often that is looked at.
	leaveLook = time.Second
)

// ErrLeaving is returned by Open and Resolve of a session that the client is leaving: another one has to take it.
var ErrLeaving = errors.New("the session is being left for another one")

// Drain asks the client to leave the session within that time, on every link it has now. A session without a link ends:
// its client cannot come back to it. It may be called again (gateway only).
func (s *Session) Drain(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	within = max(within, 0)
	for _, l := range s.links {
		l.outbox = wire.AppendGoAway(l.outbox,
			wire.GoAway{Reason: wire.GoAwayDraining, Within: uint32(within / time.Millisecond)})
		l.kickLocked()
	}
	s.leaveLocked(time.Now().Add(within))
}

// Leave opens nothing new in the session from now on and closes it once its streams have ended, or when the time is over
// (client only). GOAWAY does the same. When called again the last time counts.
func (s *Session) Leave(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(time.Now().Add(within))
}

// Leaving reports whether the session is being left.
func (s *Session) Leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

func (s *Session) leaveLocked(by time.Time) {
	if s.err != nil {
		return
	}
	s.leaving, s.leaveBy = true, by
	if len(s.links) == 0 {
		s.endLocked(&flow.Error{Code: flow.CodeSessionLost})
		return
	}
	s.armLocked(minTime(by, time.Now().Add(leaveLook)))
	s.changedLocked()
}

// leaveTickLocked closes a session that is being left, when it is time. What is under way at the end is reset.
func (s *Session) leaveTickLocked(now time.Time) {
	if s.closing {
		return
	}
	if len(s.streams) > 0 || len(s.resolves) > 0 || s.held > 0 {
		s.leaveIdle = time.Time{}
	} else if s.leaveIdle.IsZero() {
		s.leaveIdle = now
	}
	idle := leaveIdle
	if s.cfg.Role == Gateway {
		idle = forsaken
	}
	if !now.Before(s.leaveBy) || !s.leaveIdle.IsZero() && now.Sub(s.leaveIdle) >= idle {
		go s.Close(flow.CodeSessionLost) // it waits for the far side, and the lock is held
		return
	}
	s.armLocked(minTime(s.leaveBy, now.Add(leaveLook)))
}
