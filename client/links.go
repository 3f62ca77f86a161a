package client

import (
	"errors"
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
	suspected bool
}

// errNoAnswer is how a link ended on which the gateway never answered.
var errNoAnswer = errors.New("the gateway did not answer behind the handshake")

// notice compares the session's links with what was seen before, draws its conclusions, and tells what happened.
func (c *Client) notice(s *session.Session) {
	now := time.Now()
	var events []Event
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

// unansweredLocked counts a link that ended, or became suspected, before the gateway answered on it: a firewall that lets
// the handshake pass and swallows what follows must not see a storm of them.
func (c *Client) unansweredLocked(r *tracked, now time.Time) {
	err := &transport.DialError{Transport: c.ways.Way(r.way).Transport, Stage: transport.StageDoor, Err: errNoAnswer}
	c.ways.Failed(r.way, now, failure(err))
	c.wayErr[r.way] = err
	c.failedLocked(err)
}
