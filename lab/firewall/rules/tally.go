package rules

import "time"

// tally remembers, for keys such as a server, how often and since when something was seen there. What was not seen for keep
// is forgotten; when there are too many, so is what was not seen for long. Its zero value is ready.
type tally[K comparable] struct {
	// Keys seen since the last turn, and before. When there are too many of the former they become the latter.
	recent, old map[K]tallied
}

type tallied struct {
	count       int
	first, last time.Duration
}

// maxTally bounds a tally's keys: half of them are recent.
const maxTally = 10000

// add counts one more, and returns how many there were and when the first. With keep zero nothing is forgotten by time.
func (t *tally[K]) add(now, keep time.Duration, k K) tallied {
	e, known := t.recent[k]
	if !known {
		e, known = t.old[k]
	}
	if !known || keep != 0 && now-e.last > keep {
		e = tallied{first: now}
	}
	e.count++
	e.last = now
	if t.recent == nil || len(t.recent) >= maxTally/2 {
		t.old, t.recent = t.recent, make(map[K]tallied)
	}
	t.recent[k] = e
	return e
}
