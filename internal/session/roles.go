package session

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/wire"
)

// rolesLocked tells which links have a role: main carries bulk, one of those of the best standing, the oldest until that is
// found to be slow (see overtakeLocked); it is nil if there is no link. Several would contend for the same path, fill its
// queue, and make every keystroke wait there and behind what is lost of them. So the others stay free for what is small and
// urgent, unless main wants help; and then one of three still does.
func (s *Session) rolesLocked() (main, free *Link) {
	for _, l := range s.links {
		if l.dead || l.draining {
			continue
		}
		if main == nil || l.standing() < main.standing() || l == s.strongest && l.standing() == main.standing() {
			main = l
		}
	}
	good := 0
	for _, l := range s.links {
		if !l.dead && !l.draining && l.standing() == main.standing() {
			good++
			if l != main {
				free = l
			}
		}
	}
	if good < 3 {
		free = nil
	}
	return main, free
}

// carriesBulkLocked reports whether the link takes chunks of streams that send much.
func (l *Link) carriesBulkLocked(main, free *Link) bool {
	return l == main || main.path.wantsHelp() && l != free
}

// standing ranks links: lower is better. Only those of the best take what is queued.
func (l *Link) standing() int {
	switch {
	case l.suspected:
		return 4
	case !l.confirmed:
		return 3
	case l.scarce:
		return 2
	case !l.slowUntil.IsZero():
		return 1
	}
	return 0
}

const (
	// overdueTrips is after how many of another link's round trips, beside overdueMargin, a chunk is overdue.
	overdueTrips  = 2
	overdueMargin = 50 * time.Millisecond
	// outdone is how many times as much another link carries before a chunk is late on one that holds up no stream yet, and
	// outdoneTime how long that one has been at work: after a rest it has carried nothing for a while.
	outdone     = 8
	outdoneTime = time.Second
	// slowTime is how long a link stays slow for the first time; each further time is twice as long, up to slowTimeMost.
	slowTime     = 30 * time.Second
	slowTimeMost = 10 * time.Minute
)

// overtakeLocked ends that links which share the load wait for a slow one: where a stream's window is used up since its
// oldest chunks have not arrived, long after they would have on another, they are sent again there; and where it is not yet,
// if the other carries many times as much. If theirs carries less than that one it takes nothing more for a while, and is no
// longer main: https may be the oldest link and carry one Mbit/s
// where quic beside it could carry ninety, above all where a host has no congestion control that bears losses.
// (Opportunistic retransmission and penalization: Raiciu et al., "How Hard Can It Be?", NSDI 2012, section 4.2.)
func (s *Session) overtakeLocked(now time.Time) {
	f, blocking := s.oldestLocked()
	if f == nil {
		return
	}
	slow := f.link
	main, _ := s.rolesLocked()
	if main == nil || slow.slowUntil.IsZero() && !main.path.wantsHelp() {
		return
	}
	var other *Link
	for _, l := range s.links {
		if l != slow && !l.dead && !l.draining && l.standing() == 0 && l.rtt.measured &&
			(other == nil || l.rtt.smoothed < other.rtt.smoothed) {
			other = l
		}
	}
	if other == nil || !blocking && slow.recent.at(now)*outdone > other.recent.at(now) {
		return
	}
	bearable := overdueTrips*other.rtt.smoothed + overdueMargin
	late := f.sentAt.Add(bearable)
	if tried := slow.busySince.Add(outdoneTime); !blocking && late.Before(tried) {
		late = tried
	}
	if now.Before(late) {
		s.armLocked(late)
		return
	}
	if slow.slowUntil.IsZero() && slow.recent.at(now) < other.recent.at(now) {
		s.log.Debug("link is slow", "link", slow.id, "transport", slow.opt.Transport)
		slow.slowUntil = now.Add(min(slowTime<<min(slow.slowTimes, 8), slowTimeMost))
		slow.slowTimes++
		if slow == main {
			s.strongest = other
		}
	}
	most := other.batchLocked() // what more there is, the slow one may bring by itself meanwhile
	s.ring.each(func(f *frame) {
		if most > 0 && f.link == slow && !f.acked && !f.waiting && now.Sub(f.sentAt) >= bearable {
			most -= len(f.buf)
			s.againLocked(f)
		}
	})
	s.kickLocked()
}

// oldestLocked is the oldest chunk on a link, or nil: rather one whose stream's window is used up, which it reports. They are
// looked for near the oldest frame of all, which is where they are if a link is late with them.
func (s *Session) oldestLocked() (oldest *frame, blocking bool) {
	const near = 64
	for n := s.ring.base; n < min(s.ring.base+near, s.ring.next()); n++ {
		f := s.ring.get(n)
		switch {
		case f == nil || f.link == nil || f.typ != wire.TypeData || f.stream == nil:
		case f.stream.sendOff >= f.stream.sendMax:
			return f, true
		case oldest == nil:
			oldest = f
		}
	}
	return oldest, false
}

// forgiveLocked lets slow links try again after their time.
func (s *Session) forgiveLocked(now time.Time) {
	for _, l := range s.links {
		if now.After(l.slowUntil) {
			l.slowUntil = time.Time{}
		}
	}
}
