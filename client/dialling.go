package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/internal/dialer"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// pace waits until another connection may be begun, and takes its turn: a dial that needs a second one must not begin it
// beside somebody else's.
func (c *Client) pace(ctx context.Context) error {
	for {
		c.mu.Lock()
		now := time.Now()
		wait := c.nextDial.Sub(now)
		if wait <= 0 {
			c.holdOffLocked(now, transport.DialSpacing)
		}
		c.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		select {
		case <-time.After(min(wait, transport.DialSpacing)): // others may have been let in, or all be begun anew
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dialling is a dial that is under way.
type dialling struct {
	way    int
	began  time.Time
	cancel context.CancelFunc
	lost   bool // it is to end, for no fault of its way
}

func (d *dialling) lose() {
	d.lost = true
	d.cancel()
}

// errOvertaken is how a dial ended that took so long that other ways brought the links that were missing.
var errOvertaken = errors.New("too slow: other ways were there first")

// overtaken ends a dial that is not needed any more. One that has taken long counts as failed, for who swallows what a
// dial says must not be the first choice next time.
func (c *Client) overtaken(d *dialling) {
	if now := time.Now(); !d.lost && now.Sub(d.began) > slowDial {
		c.mu.Lock()
		c.ways.Failed(d.way, now, dialer.Unreachable)
		c.wayErr[d.way] = errOvertaken
		c.mu.Unlock()
	}
	d.lose()
}

type dialEnd struct {
	*dialling
	err error
}

// slowDial is how old a dial is that another one may overtake, beyond as many as there are links to be made.
const slowDial = 2 * time.Second

// nextDialling says which way is to be dialled next, and how soon; ok is false if none is. One that is due has to be dialled.
func (c *Client) nextDialling(s *session.Session, missing int, under []*dialling) (way int, due time.Duration, ok bool) {
	now := time.Now()
	busy := make([]dialer.Dial, len(under))
	slow := 0
	for i, d := range under {
		busy[i] = dialer.Dial{Way: d.way, Slow: now.Sub(d.began) > slowDial}
		if busy[i].Slow {
			slow = 1
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.haveLocked(s.Status())
	next := c.nextDial
	explore := false
	if !next.After(now) { // also where links are missing: those of a makeshift may be so bad that they always are
		way, explore = c.ways.Explore(now, have, busy)
	}
	switch {
	case explore:
	case missing > 0 && len(under) < min(missing+slow, MaxLinks):
		var at time.Time
		way, at = c.ways.Next(now, have, busy)
		if slices.ContainsFunc(busy, func(d dialer.Dial) bool { return d.Way == way }) {
			return 0, 0, false // a second dial the same way would meet what the first one meets
		}
		next = later(next, at)
	case missing > 0 && len(under) < MaxLinks && slow == 0:
		return 0, slowDial, len(under) > 0 && c.ways.Len() > len(under)
	default:
		return 0, 0, false
	}
	if !next.After(now) { // its turn is taken at once: a dial that needs a second connection may be waiting for one
		c.holdOffLocked(now, transport.DialSpacing)
	}
	return way, next.Sub(now), true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// dial makes one link, by this way, and attaches it to s.
func (c *Client) dial(ctx context.Context, s *session.Session, way int) error {
	began, ep := time.Now(), c.places[way]
	c.mu.Lock()
	transportName, patience := c.ways.Way(way).Transport, c.ways.Patience(way, began)
	c.wearLocked()
	c.mu.Unlock()
	c.log.Debug("dialling", "transport", transportName, "way", way)
	cert, renew := c.identity.present(time.Now())
	d := c.dialers[transportName]
	k := link.Knock{Transport: transports.Ends(d), KeyID: c.cfg.Key.ID, Secret: c.cfg.Key.Secret.Reveal(),
		Directory: [ed25519.PublicKeySize]byte(c.cfg.Key.DirectoryKey),
		Device:    c.identity.key, Cert: cert, Session: s.ID(), Next: s.Next(), Features: uint64(c.shape)}
	c.mu.Lock()
	if c.session == s && !c.welcomed {
		k.Flags |= wire.HelloNew
	}
	c.mu.Unlock()
	switch {
	case cert == nil:
		k.Flags |= wire.HelloEnrol
	case renew:
		k.Flags |= wire.HelloRenew
	}
	dialCtx := ctx
	if patience > 0 {
		var cancel context.CancelFunc
		dialCtx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	to := transport.Endpoint{Addr: c.ways.Way(way).Addr, Name: ep.Name, Pins: c.cfg.Key.Pins(), Opener: k, Fragment: c.fragment, Pace: c.pace,
		Network: c.networkNow()}
	if r := ep.Relay; r != nil {
		via := transport.Endpoint{Addr: to.Addr, Name: to.Name, Pins: [][32]byte{r.Pin}, Fragment: c.fragment, Network: to.Network,
			Opener: link.Pass{KeyID: c.cfg.Key.ID, Secret: r.Secret.Reveal()}}
		first := c.cfg.Key.Endpoints[0]
		to.Addr, to.Name, to.Via = first.Addr(), first.Name, &via
	}
	conn, err := d.Dial(dialCtx, to)
	if err != nil {
		if ctx.Err() == nil {
			c.mu.Lock()
			c.ways.Failed(way, time.Now(), failure(err))
			c.wayErr[way] = err
			c.mu.Unlock()
		}
		return err
	}
	// The transport's own handshakes are two round trips, as TCP's and TLS's are.
	rtt := time.Since(began) / 2
	l, err := s.Attach(conn, session.LinkOptions{
		Transport: transportName, RTT: rtt,
		Handshake: func(t wire.Type, body []byte) (uint64, error) { return c.answered(s, t, body) },
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.links[l.ID()] = &tracked{link: l, way: way}
		select {
		case <-c.usable:
		default:
			close(c.usable)
		}
	}
	return nil
}

// dialEnded spaces out the next dial.
func (c *Client) dialEnded(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failedLocked(err)
		return
	}
	c.spaceLocked()
}

// failedLocked counts an attempt that brought no link.
func (c *Client) failedLocked(err error) {
	if c.looped.Load() {
		err = errLoop
	}
	c.lastErr = err
	c.attempts++
	c.log.Debug("dialling failed", "err", redact(err), "attempts", c.attempts)
	c.spaceLocked()
}

// proven is how old a link is of which one can say that the network lets it be. Some firewalls let every connection
// begin, and freeze it after some 25 packets.
const proven = 3 * time.Second

// provenBytes is how much a link has to have carried, too, until its way is known to be good: an idle one meets no such
// firewall.
const provenBytes = 64 << 10

// spared is how many links may die young in a row before dials are spaced out for it: those that one firewall's rule hits at
// once are replaced at once. Spacing ends at seven seconds: each link carries something before it dies.
const (
	spared   = 2
	mostDead = 4
)

// diedYoungLocked counts a link that did not live to be proven. If all do, dialling on at the least spacing would be a
// storm, which is the very thing that such firewalls look for.
func (c *Client) diedYoungLocked() {
	c.young++
	c.youngAt = time.Now()
	c.spaceLocked()
}

// spaceLocked sets when the next dial may be: after the least spacing, doubled each time that all ways have failed.
func (c *Client) spaceLocked() {
	rounds := c.attempts / c.ways.Len()
	wait := min(transport.DialSpacing<<max(min(rounds, 10), min(c.young-spared, mostDead)), maxBackoff)
	c.holdOffLocked(time.Now(), wait)
}

// holdOffLocked has the next dial wait, and a little more by chance. A refusal may have asked for longer.
func (c *Client) holdOffLocked(now time.Time, wait time.Duration) {
	c.nextDial = later(c.nextDial, now.Add(wait+mrand.N(wait/4)))
}

// redact keeps the gateway's address out of a log, which people post when they ask for help.
func redact(err error) string {
	var de *transport.DialError
	if !errors.As(err, &de) {
		return err.Error()
	}
	what := flow.CodeOf(de.Err).String()
	var reason transport.Reason
	switch {
	case errors.Is(de.Err, transport.ErrPin):
		what = transport.ErrPin.Error()
	case errors.Is(de.Err, errNoAnswer):
		what = errNoAnswer.Error()
	case errors.As(de.Err, &reason):
		what = string(reason)
	case errors.Is(de.Err, io.EOF), errors.Is(de.Err, io.ErrUnexpectedEOF):
		what = "closed without an answer"
	}
	return fmt.Sprintf("%s: %s: %s", de.Transport, de.Stage, what)
}
