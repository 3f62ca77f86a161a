package session

import "time"

// rolesLocked tells which links have a role: main carries bulk, one of those of the best standing, the oldest until another
// has shown that it carries more (see compareLocked); it is nil if there is no link. Several would contend for the same
// path, fill its queue, and make every keystroke wait there and behind what is lost of them. So the others stay free for
// what is small and urgent, unless main wants help; and then one of three still does.
func (s *Session) rolesLocked() (main, free *Link) {
	for _, l := range s.links {
		if !l.dead && !l.draining && (main == nil || l.standing() < main.standing() || l == s.strongest && l.standing() == main.standing()) {
			main = l
		}
	}
	good := 0
	for _, l := range s.links {
		if !l.dead && !l.draining && l.standing() == main.standing() {
			good++
			if l != main && (free == nil || !free.trial.slow) {
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
	return l == main || main.path.wantsHelp() && l != free && !l.trial.slow
}

// standing ranks links: lower is better.
func (l *Link) standing() int {
	switch {
	case l.suspected:
		return 3
	case !l.confirmed:
		return 2
	case l.scarce:
		return 1
	}
	return 0
}

// trial is how a link does that carries bulk.
type trial struct {
	from, last time.Time // the spell during which it carried bulk, without a pause; zero if it does not
	slow       bool      // it carries so much less than the main one that its chunks hold up the others'
	until      time.Time // when that is tried again
	times      int       // how often it was found to be slow
}

const (
	// trialPause ends a spell. A slow link takes a chunk or two a second.
	trialPause = 3 * time.Second
	// A link has shown what it carries after trialTime or trialTrips round trips, whichever is longer: TCP finds its rate
	// within them.
	trialTime  = time.Second
	trialTrips = 8
	// One that carries less than a slowShare of what main does is slow, and one that carries strongShare times as much
	// becomes main.
	slowShare   = 8
	strongShare = 2
	// slowTime is how long a link stays slow for the first time; each further time is twice as long, up to slowTimeMost.
	slowTime     = 30 * time.Second
	slowTimeMost = 10 * time.Minute
)

// carries notes that the link takes bulk now.
func (t *trial) carries(now time.Time) {
	if t.from.IsZero() || now.Sub(t.last) > trialPause {
		t.from = now
	}
	t.last = now
}

// compareLocked looks at links that carry bulk beside one another, as they do where main wants help. The one that carries
// most is main from then on: https may be the oldest and carry one Mbit/s where quic beside it carries ninety, above all
// where a host has no congestion control that bears losses. And one that carries little next to main takes no more bulk, and
// what it has goes elsewhere: all that is behind a chunk of a stream waits for it.
func (s *Session) compareLocked(now time.Time) {
	main, _ := s.rolesLocked()
	if main == nil {
		return
	}
	for _, l := range s.links {
		if l != main && (!main.path.wantsHelp() || now.Sub(l.trial.last) > trialPause) {
			l.trial.from = time.Time{}
		}
	}
	for _, l := range s.links {
		if !l.trial.from.IsZero() && l.standing() == main.standing() && !l.draining && l.rate.best() > strongShare*main.rate.best() {
			main, s.strongest = l, l
			s.log.Debug("link carries most", "link", l.id, "transport", l.opt.Transport)
		}
	}
	for _, l := range s.links {
		t := &l.trial
		if t.slow {
			t.slow = now.Before(t.until)
			continue
		}
		long := !t.from.IsZero() && now.Sub(t.from) > max(trialTime, trialTrips*l.rtt.least)
		if l != main && long && l.rate.best() < main.rate.best()/slowShare {
			t.slow, t.until = true, now.Add(min(slowTime<<min(t.times, 8), slowTimeMost))
			t.times++
			s.log.Debug("link is slow", "link", l.id, "transport", l.opt.Transport)
			s.moveLocked(l)
		}
	}
}
