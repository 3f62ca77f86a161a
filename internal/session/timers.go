package session

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// probeMin and probeMax bound the learnt interval of idle probes.
	probeMin = 20 * time.Second
	probeMax = 10 * time.Minute
	// quietFor is how long after its last data a session with open streams asks whether the silence is one: a download
	// that was swallowed looks from here like one that has nothing to say.
	quietFor = 10 * time.Second
	// silentFor is how long a suspected link is listened to while others work.
	silentFor = 30 * time.Second
	// memoryRetry is how often streams that wait for memory look again, since other sessions give it back.
	memoryRetry = 50 * time.Millisecond
)

func wireError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", wire.ErrMalformed, fmt.Sprintf(format, args...))
}

// armLocked makes tick run at t or earlier.
func (s *Session) armLocked(t time.Time) {
	if s.err != nil || !s.timerAt.IsZero() && !s.timerAt.After(t) {
		return
	}
	s.timerAt = t
	s.timer.Reset(time.Until(t))
}

// tick does what is due and arms the timer for what is next.
func (s *Session) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	now := time.Now()
	s.timerAt = time.Time{}
	if s.memWait.len() > 0 {
		if s.wakeMemoryLocked(); s.memWait.len() > 0 {
			s.armLocked(now.Add(memoryRetry))
		}
	}
	if len(s.links) == 0 {
		s.detachedTickLocked(now)
		return
	}
	for i := len(s.links) - 1; i >= 0; i-- { // a link that fails here leaves the list
		if l := s.links[i]; !l.dead {
			l.tickLocked(now)
		}
	}
	if s.err == nil {
		s.overtakeLocked(now)
	}
	if s.err == nil && s.cfg.Role == Client {
		s.probeLocked(now)
	}
	if s.shaper != nil {
		s.shapeTickLocked(now)
	}
	if s.err == nil && s.leaving {
		s.leaveTickLocked(now)
	}
}

// detachedTickLocked lets a session without links fall asleep, and end.
func (s *Session) detachedTickLocked(now time.Time) {
	asleep, over := s.detached.Add(s.cfg.Grace), s.detached.Add(s.cfg.Sleep)
	switch {
	case !now.Before(over):
		s.endLocked(&flow.Error{Code: flow.CodeSessionLost})
	case !now.Before(asleep):
		if !s.trimmed {
			go s.trim()
		}
		s.armLocked(over)
	default:
		s.armLocked(asleep)
	}
}

func (l *Link) tickLocked(now time.Time) {
	s := l.s
	if !l.ackAt.IsZero() {
		if now.Before(l.ackAt) {
			s.armLocked(l.ackAt)
		} else {
			l.ackNow, l.ackAt = true, time.Time{}
			l.kickLocked()
		}
	}
	if l.draining {
		if !now.Before(l.drainBy) || l.frames == 0 && s.cfg.Role == Client && now.Sub(l.lastRecv) > time.Second {
			l.failLocked(ErrReplaced)
			return
		}
		s.armLocked(minTime(l.drainBy, now.Add(time.Second)))
	}
	if l.awaitsLocked() {
		if at := l.lastAck.Add(l.patience()); now.Before(at) {
			s.armLocked(at)
		} else {
			l.suspectLocked(now)
		}
	}
	if l.waiting && !l.suspected { // its acknowledgements may be too rare to tell what its path is like
		if at := l.path.since.Add(pathInterval); now.Before(at) {
			s.armLocked(at)
		} else {
			l.tuneLocked(now)
			s.armLocked(now.Add(pathInterval))
		}
	}
	if l.suspected {
		// While others work it is listened to for a while; it is also given up if it is alone and dead for long.
		give := l.lastAck.Add(silentFor)
		if !s.othersLocked(l) {
			give = give.Add(silentFor)
		}
		if !now.Before(give) {
			l.failLocked(ErrSilent)
			return
		}
		s.armLocked(give)
		if !l.pinging {
			l.pingLocked(now)
		}
	}
}

func (l *Link) pingLocked(now time.Time) {
	if !l.awaitsLocked() {
		l.lastAck = now
	}
	l.pinging, l.pingAt = true, now
	l.pingID++
	l.outbox = wire.AppendPing(l.outbox, l.pingID)
	l.kickLocked()
	l.s.armLocked(now.Add(l.patience()))
}

// probeLocked asks links that are silent whether they live: soon after data has stopped coming, since that may be a
// firewall's doing, and then at the learnt interval.
func (s *Session) probeLocked(now time.Time) {
	if len(s.streams) > 0 && !s.lastData.IsZero() && now.Sub(s.lastData) < quietFor {
		// 1, 4 and 16 times a few round trips after the last data.
		gap := max(250*time.Millisecond, 2*s.rttLocked()) << (2 * s.quietPings)
		if at := s.lastData.Add(gap); now.Before(at) {
			s.armLocked(at)
		} else if s.quietPings < 3 {
			s.quietPings++
			for _, l := range s.links {
				if !l.pinging && !l.draining {
					l.pingLocked(now)
				}
			}
			s.armLocked(s.lastData.Add(gap << 2))
		}
	}
	last := s.lastHeardLocked()
	if s.probeAt.Before(last) { // something came since it was set: begin to wait anew, jittered
		s.probeAt = last.Add(jitter(s.probeEvery))
	}
	if now.Before(s.probeAt) {
		s.armLocked(s.probeAt)
		return
	}
	for _, l := range s.links {
		if !l.pinging && !l.draining {
			l.pingLocked(now)
		}
	}
	s.probeAt = now.Add(jitter(s.probeEvery))
	s.armLocked(s.probeAt)
}

// lastHeardLocked is when anything last came in on any link.
func (s *Session) lastHeardLocked() time.Time {
	var last time.Time
	for _, l := range s.links {
		if l.lastRecv.After(last) {
			last = l.lastRecv
		}
	}
	return last
}

// probedLocked learns from an idle probe that was answered: the network keeps silent links at least this long.
func (s *Session) probedLocked() {
	if s.lastData.IsZero() || time.Since(s.lastData) > s.probeEvery/2 {
		s.probeEvery = min(s.probeEvery*3/2, probeMax)
	}
}

// jitter varies d by a quarter each way, so that a silent link has no period.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
