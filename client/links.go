package client

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
)

// tracked is a link of the present session, as it was when last looked at.
type tracked struct {
	link      *session.Link
	way       int
	since     time.Time
	answered  bool // the gateway has answered on it
	failed    bool // it is suspected, and that was counted as a failure of its way
	lived     bool // it has proven that it is let be
	carried   uint64
	compared  uint64 // what it had carried when links were last compared
	suspected bool
}

// errNoAnswer is how a link ended on which the gateway never answered.
var errNoAnswer = errors.New("the gateway did not answer behind the handshake")

// notice compares the session's links with what was seen before, draws its conclusions, and tells what happened.
func (c *Client) notice(s *session.Session) {
	now := time.Now()
	var events []Event
	var paused time.Duration // of what a link carried that is suspected now
	seen := make(map[uint64]bool)
	st := s.Status()
	c.mu.Lock()
	for _, l := range st.Links {
		seen[l.ID] = true
		r := c.links[l.ID]
		if r == nil {
			continue // it is being attached
		}
		if l.Confirmed && !r.answered {
			r.answered, r.since = true, l.Since
			c.ways.Worked(r.way, now)
			c.wayErr[r.way] = nil
			events = append(events, Event{Time: now, Kind: LinkUp, Link: l.ID, Transport: l.Transport})
		}
		r.carried = l.Sent + l.Received
		switch {
		case !r.answered && l.Suspected && !r.failed:
			r.failed = true
			c.unansweredLocked(r, now)
		case r.answered && !l.Suspected && now.Sub(l.Since) > proven:
			if l.Since.After(c.youngAt) { // an older one says nothing of those that begin now
				c.young = 0
			}
			if !r.lived && r.carried > provenBytes {
				r.lived, r.failed = true, false
				c.ways.Lived(r.way, now)
			}
		}
		if l.Suspected && !r.suspected {
			if r.answered {
				c.ways.Broke(r.way, now, r.carried <= provenBytes)
				paused = max(paused, now.Sub(l.LastRecv))
				r.failed, r.lived = true, false // if it recovers, it has to prove itself again
				if now.Sub(l.Since) < proven {
					c.diedYoungLocked()
				}
			}
			events = append(events, Event{Time: now, Kind: LinkSuspected, Link: l.ID, Transport: l.Transport})
		}
		r.suspected = l.Suspected
	}
	for id, r := range c.links {
		if seen[id] {
			continue
		}
		delete(c.links, id)
		cause := r.link.Cause()
		if !r.answered {
			// A refusal is an answer, and counted already.
			if refusal := (*link.Refusal)(nil); !r.failed && !errors.As(cause, &refusal) {
				c.unansweredLocked(r, now)
			}
			continue
		}
		if broken(cause) {
			// One that was suspected has been counted.
			if !r.suspected && now.Sub(r.since) < proven {
				c.diedYoungLocked()
			}
			if !r.failed {
				c.ways.Broke(r.way, now, r.carried <= provenBytes)
			}
		}
		c.lost++
		c.replaced = append(c.replaced, Replacement{Time: now, Link: id, Cause: describe(cause)})
		if len(c.replaced) > keptReplacements {
			c.replaced = c.replaced[1:]
		}
		events = append(events, Event{Time: now, Kind: LinkDown, Link: id, Transport: c.ways.Way(r.way).Transport, Cause: describe(cause)})
	}
	through := false
	for _, r := range c.links {
		through = through || r.answered && !r.suspected
	}
	c.stalls.see(through, st.LastData, paused, now)
	if now.Sub(c.compared) >= compareEvery {
		c.compared = now
		if slow, better, ok := compare(slices.Collect(maps.Values(c.links))); ok {
			c.ways.Outdone(slow.way, better.way, now)
			c.log.Debug("link outdone", "transport", c.ways.Way(slow.way).Transport, "by", c.ways.Way(better.way).Transport)
		}
	}
	c.mu.Unlock()
	for _, e := range events {
		if e.Kind == LinkDown {
			c.log.Info("link lost", "link", e.Link, "transport", e.Transport, "cause", e.Cause)
		} else {
			c.log.Info(string(e.Kind), "link", e.Link, "transport", e.Transport)
		}
		if c.cfg.Events != nil {
			c.cfg.Events(e)
		}
	}
}

const (
	// compareEvery is how often links are compared by what they have carried since.
	compareEvery = 3 * time.Second
	// outdone is how many times as much the better one has carried, and outdoneBytes how much at least.
	outdone      = 8
	outdoneBytes = 1 << 20
)

// compare tells whether a link has carried many times as much as the oldest, which would have had it all if that were as good:
// only the far side may know of a path what shows in a download. It begins the next comparison.
func compare(links []*tracked) (slow, better *tracked, ok bool) {
	since := func(r *tracked) uint64 { return r.carried - r.compared }
	for _, r := range links {
		if !r.answered || r.suspected {
			continue
		}
		if slow == nil || r.since.Before(slow.since) {
			slow = r
		}
		if better == nil || since(r) > since(better) {
			better = r
		}
	}
	ok = better != nil && better.way != slow.way && slow.compared > 0 && since(better) >= max(outdoneBytes, outdone*since(slow))
	for _, r := range links {
		r.compared = r.carried
	}
	return slow, better, ok
}

// unansweredLocked counts a link that ended, or became suspected, before the gateway answered on it: a firewall that lets
// the handshake pass and swallows what follows must not see a storm of them.
func (c *Client) unansweredLocked(r *tracked, now time.Time) {
	err := &transport.DialError{Transport: c.ways.Way(r.way).Transport, Stage: transport.StageDoor, Err: errNoAnswer}
	c.ways.Failed(r.way, now, failure(err))
	c.wayErr[r.way] = err
	c.failedLocked(err)
}
