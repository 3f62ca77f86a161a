package client

import (
	"errors"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	LinkUp        EventKind = "link-up"
	LinkDown      EventKind = "link-down"
	LinkSuspected EventKind = "link-suspected"
)

// Event is something that happened to a link.
type Event struct {
	Time      time.Time `json:"time"`
	Kind      EventKind `json:"kind"`
	Link      uint64    `json:"link"`
	Transport string    `json:"transport"`
	Cause     string    `json:"cause,omitempty"` // of LinkDown
}

// Replacement is a link that is no more, and why.
type Replacement struct {
	Time  time.Time `json:"time"`
	Link  uint64    `json:"link"`
	Cause string    `json:"cause"`
}

// keptReplacements is how many of them status shows.
const keptReplacements = 8

// State is how things are, in a word.
type State string

// The states.
const (
	Connecting State = "connecting" // no link has worked in this session yet
	Connected  State = "connected"  // data came through lately
	Stalled    State = "stalled"    // there are links, and nothing comes through
	Offline    State = "offline"    // there was a session, and no link now
)

// Status is a client at one moment.
type Status struct {
	State State `json:"state"`
	// LastData is when anything last came in from the gateway; zero if never.
	LastData time.Time `json:"last_data"`
	Links    []Link    `json:"links"`
	// Ways are the ways to the gateway, in the order of the access key, and what is known of each on this network.
	Ways []Way `json:"ways"`
	// Leaving are earlier sessions, of a gateway that is being replaced, with streams that have not ended yet.
	Leaving  []LeavingSession `json:"leaving"`
	Streams  int              `json:"streams"`
	Opened   uint64           `json:"streams_opened"`
	Sent     uint64           `json:"bytes_sent"` // in this session
	Received uint64           `json:"bytes_received"`
	Resent   uint64           `json:"bytes_resent"` // on another link than the first
	Memory   int64            `json:"memory_bytes"` // retained and reassembled
	// LinksLost counts links that ended; Replacements tells why the last few did.
	LinksLost    uint64        `json:"links_lost"`
	Replacements []Replacement `json:"replacements"`
	Address4     string        `json:"address4,omitempty"` // in the tunnel
	Address6     string        `json:"address6,omitempty"`
	PacketsLost  uint64        `json:"packets_dropped"` // before they left
	Proxied      int64         `json:"proxy_connections"`
	TUN          *TUNStats     `json:"tun,omitempty"`        // nil without one
	EarlyFailed  uint64        `json:"proxy_early_failures"` // told "connected", then reset
	Stalls       Stalls        `json:"stalls"`
	Attempts     int           `json:"dial_failures"`   // in a row
	Error        string        `json:"error,omitempty"` // of the last dial, while it matters
	SomebodyElse bool          `json:"somebody_else"`   // answers in the gateway's stead, as a network does that wants a login
	Device       string        `json:"device"`
	CertUntil    time.Time     `json:"certificate_until"`
	Browser      Browser       `json:"browser"` // whose visits the links look like that are dialled now
}

// LeavingSession is a session in which nothing new is opened.
type LeavingSession struct {
	Streams int       `json:"streams"`
	Links   int       `json:"links"`
	Until   time.Time `json:"until"` // when it is closed, whatever is under way
}

// Link is a link at one moment.
type Link struct {
	ID         uint64    `json:"id"`
	Transport  string    `json:"transport"`
	Since      time.Time `json:"since"`
	State      string    `json:"state"` // healthy, suspected, draining, opening
	RTT        float64   `json:"rtt_ms"`
	Rate       float64   `json:"rate_bytes_per_second"` // the best lately, outgoing
	Sent       uint64    `json:"bytes_sent"`
	Received   uint64    `json:"bytes_received"`
	Congestion string    `json:"congestion_control,omitempty"`
	LastData   time.Time `json:"last_data"`
}

// Way is one of the access key's endpoints.
type Way struct {
	Transport string    `json:"transport"`
	Endpoint  int       `json:"endpoint"` // of the access key, from 1: it is not shown by its address
	Links     int       `json:"links"`
	State     string    `json:"state"`             // untried, works, failed, struck: answered and then blocked
	Failures  int       `json:"failures"`          // in a row, those that still count
	Worked    time.Time `json:"worked,omitzero"`   // last
	Until     time.Time `json:"until,omitzero"`    // it is left alone until then, as long as there are others
	Error     string    `json:"error,omitempty"`   // of the last dial, if it failed
	Found     string    `json:"found,omitempty"`   // by Steer: blocked, slow
	Outdone   bool      `json:"outdone,omitempty"` // lately another carried many times as much, and is dialled before it
}

// freshFor is for how long after the last byte a client with an open stream calls itself connected.
const freshFor = 5 * time.Second

// Status returns the client's state.
func (c *Client) Status() Status {
	c.mu.Lock()
	s := c.session
	st := Status{
		State: Connecting, LinksLost: c.lost, Replacements: slices.Clone(c.replaced), Attempts: c.attempts,
		Links: []Link{}, Leaving: []LeavingSession{}, Memory: c.pool.Used(), Device: c.identity.key.ID().String(),
	}
	if st.Replacements == nil {
		st.Replacements = []Replacement{}
	}
	if c.addrs.v4.IsValid() {
		st.Address4, st.Address6 = c.addrs.v4.String(), c.addrs.v6.String()
	}
	if c.lastErr != nil {
		st.Error = redact(c.lastErr)
	}
	st.Ways = c.waysLocked()
	elsewhere := slices.ContainsFunc(c.wayErr, func(err error) bool {
		return errors.Is(err, transport.ErrPin) || errors.Is(err, transport.ErrNotTLS)
	})
	st.Browser, st.Stalls = c.wornLocked(), c.stalls.status(time.Now())
	welcomed, leaving := c.welcomed, slices.Clone(c.leaving)
	c.mu.Unlock()
	for _, old := range leaving {
		if s := old.Status(); len(s.Links) > 0 {
			st.Leaving = append(st.Leaving, LeavingSession{Streams: s.Streams, Links: len(s.Links), Until: s.LeaveBy})
		}
	}
	c.identity.mu.Lock()
	st.CertUntil = c.identity.until
	c.identity.mu.Unlock()
	p := c.proxy.Stats()
	st.Proxied, st.EarlyFailed, st.TUN = p.Conns, p.EarlyFailed, c.tunStats()
	if s == nil {
		return st
	}
	ss := s.Status()
	st.LastData, st.Streams, st.Opened = ss.LastData, ss.Streams, ss.StreamsTotal
	st.Sent, st.Received, st.Resent = ss.Sent, ss.Received, ss.Resent
	st.PacketsLost = ss.PacketsLate + ss.PacketsFull
	healthy := 0
	for _, l := range ss.Links {
		state := "healthy"
		switch {
		case l.Draining:
			state = "draining"
		case l.Suspected:
			state = "suspected"
		case !l.Confirmed:
			state = "opening"
		default:
			healthy++
		}
		st.Links = append(st.Links, Link{
			ID: l.ID, Transport: l.Transport, Since: l.Since, State: state, RTT: float64(l.RTT) / float64(time.Millisecond),
			Rate: l.Rate, Sent: l.Sent, Received: l.Received, Congestion: l.Congestion, LastData: l.LastRecv,
		})
	}
	// A healthy link has answered whatever it was last asked, at the latest its idle probe.
	switch fresh := time.Since(ss.LastData) < max(freshFor, ss.ProbeInterval*3/2); {
	case !welcomed:
	case healthy > 0 && fresh:
		st.State = Connected
	case len(ss.Links) > 0:
		st.State = Stalled
	default:
		st.State = Offline
	}
	st.SomebodyElse = elsewhere && healthy == 0
	return st
}

// broken reports whether the network is likely to have ended a link, rather than one of its ends.
func broken(cause error) bool {
	return errors.Is(cause, session.ErrSilent) || errors.Is(cause, syscall.ECONNRESET)
}

// describe says in a few words why a link ended, without addresses.
func describe(err error) string {
	switch {
	case err == nil:
		return "the session ended"
	case errors.Is(err, session.ErrReplaced), errors.Is(err, session.ErrSilent):
		return err.Error()
	}
	switch code := flow.CodeOf(err); {
	case errors.Is(err, io.EOF):
		return "closed by the network or the gateway"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, wire.ErrMalformed):
		return "the gateway sent something malformed"
	default:
		return code.String()
	}
}
