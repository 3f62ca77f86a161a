package client

import (
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/session"
)

// entries are the gateway's addresses in the access key, and what is known of them. A firewall that has found one of them
// blocks it for minutes, so links spread over all: the next one takes whichever has failed least lately and carries fewest.
// With a single address none of this matters. Client.mu guards it.
type entries struct {
	list  []accesskey.Endpoint
	known []entry        // of each
	of    map[uint64]int // which one a link came by
}

type entry struct {
	failures int // in a row
	failed   time.Time
}

// forgetFailures is for how long a failure counts: a little longer than the longest residual block that was measured, 420 s.
const forgetFailures = 10 * time.Minute

// firstPatience is how long a dial may take while there are other addresses to try: enough for a SYN that is lost twice, and
// for four round trips of a second. It doubles each time that all of them have failed.
const firstPatience = 4 * time.Second

func newEntries(endpoints []accesskey.Endpoint, transport string) entries {
	e := entries{of: make(map[uint64]int)}
	for _, ep := range endpoints {
		if ep.Transport == "" || ep.Transport == transport {
			e.list = append(e.list, ep)
		}
	}
	e.known = make([]entry, len(e.list)) // the first endpoint of a key is always https, so there is one
	return e
}

// next chooses where to dial.
func (e *entries) next(links []session.LinkStatus, now time.Time) int {
	healthy, suspected := make([]int, len(e.list)), make([]int, len(e.list))
	for _, l := range links {
		if i, ok := e.of[l.ID]; ok && l.Suspected {
			suspected[i]++
		} else if ok {
			healthy[i]++
		}
	}
	best := 0
	for i := range e.list {
		for _, d := range [...]int{e.failures(i, now) - e.failures(best, now), suspected[i] - suspected[best], healthy[i] - healthy[best]} {
			if d < 0 {
				best = i
			}
			if d != 0 {
				break
			}
		}
	}
	return best
}

func (e *entries) failures(i int, now time.Time) int {
	if now.Sub(e.known[i].failed) > forgetFailures {
		return 0
	}
	return e.known[i].failures
}

// patience is how long a dial to one of them may take; zero is as long as the transport likes.
func (e *entries) patience(i int, now time.Time) time.Duration {
	if len(e.list) == 1 {
		return 0
	}
	return firstPatience << min(e.failures(i, now), 3)
}

func (e *entries) fail(i int, now time.Time) {
	e.known[i] = entry{e.failures(i, now) + 1, now}
}

func (e *entries) work(i int) { e.known[i] = entry{} }

// forget is for another network, on which other things are blocked.
func (e *entries) forget() { clear(e.known) }
