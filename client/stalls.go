package client

import "time"

// Stalls are the times in which nothing came through: there was no link, or none that answered, or what one carried had to go
// by another.
type Stalls struct {
	Count   uint64    `json:"count"`         // since the first link; the present one is none of them yet
	Lately  int       `json:"lately"`        // that ended within the last hour
	Longest float64   `json:"longest_ms"`    // of those
	Last    time.Time `json:"last,omitzero"` // when the last one ended
	Now     float64   `json:"now_ms"`        // for how long nothing has come through; 0 if it does
}

const (
	// lately is how far back single stalls are remembered, and mostStalls how many.
	lately     = time.Hour
	mostStalls = 1000
)

// stalls counts them. Not safe for concurrent use.
type stalls struct {
	began time.Time // the present one; zero if there is none
	up    bool      // there was a link
	count uint64
	ended []stall // lately, oldest first
}

type stall struct {
	end  time.Time
	took time.Duration
}

// see takes how things are now. heard is when anything last came in: what stalls in use did so then. paused is for how long a
// link has been silent that others take over from now, 0 if none has.
func (s *stalls) see(through bool, heard time.Time, paused time.Duration, now time.Time) {
	switch {
	case through && !s.began.IsZero():
		s.end(now.Sub(s.began), now)
		s.began = time.Time{}
	case through && 0 < paused && paused < freshFor: // a longer one was not in use
		s.end(paused, now)
	case !through && s.up && s.began.IsZero():
		if s.began = now; now.Sub(heard) < freshFor {
			s.began = heard
		}
	}
	s.up = s.up || through
}

func (s *stalls) end(took time.Duration, now time.Time) {
	s.count++
	s.ended = append(s.ended, stall{now, took})
	if len(s.ended) > mostStalls {
		s.ended = s.ended[1:]
	}
}

func (s *stalls) status(now time.Time) (st Stalls) {
	for len(s.ended) > 0 && now.Sub(s.ended[0].end) > lately {
		s.ended = s.ended[1:]
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	st.Count, st.Lately = s.count, len(s.ended)
	for _, e := range s.ended {
		st.Longest, st.Last = max(st.Longest, ms(e.took)), e.end
	}
	if !s.began.IsZero() {
		st.Now = ms(now.Sub(s.began))
	}
	return st
}
