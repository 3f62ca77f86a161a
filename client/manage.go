package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// maxBackoff bounds the wait between dials that fail.
	maxBackoff = time.Minute
	// quotaSpread is how long after the moment that a gateway named a client whose quota was used up asks again, at most.
	quotaSpread = 10 * time.Minute
	// lookEvery is how often the clock is looked at for a sleep of the machine.
	lookEvery = 20 * time.Second
	// linkBytes is how much one link carries before it is replaced, far below what one AES-GCM key may protect
	// (RFC 8446 §5.5: 2^24.5 full records).
	linkBytes = 128 << 30
	// leaveUnasked is for how long a session is left that the gateway does not know any more, if nobody says.
	leaveUnasked = time.Hour
)

type tunnelAddrs struct{ v4, v6 netip.Addr }

// manage keeps a session, and links for it.
func (c *Client) manage(ctx context.Context) error {
	dialled := make(chan error, 1) // one dial at a time, whose end is awaited below
	dialling := false
	defer func() {
		if dialling {
			<-dialled
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	dialCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	lastWall, lastMono := time.Now().Round(0), time.Now()
	for {
		s := c.sessionNow()
		c.notice(s)
		wait := lookEvery
		if c.cfg.Links == 0 && s.Status().Streams > 0 {
			wait = loadEvery
		}
		if !dialling && c.wantsLink(s) {
			c.mu.Lock()
			wait = min(wait, time.Until(c.nextDial))
			c.mu.Unlock()
			if wait <= 0 {
				dialling = true
				wait = lookEvery // its end wakes us
				go func() { dialled <- c.dial(dialCtx, s) }()
			}
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		case <-c.poke:
		case <-timer.C:
		case err := <-dialled:
			dialling = false
			c.dialEnded(err)
		}
		if err := c.takeRefusal(); err != nil {
			return err
		}
		// The monotonic clock stands still while the machine sleeps, the wall clock does not.
		now := time.Now()
		if slept := now.Round(0).Sub(lastWall) - now.Sub(lastMono); slept > 5*time.Second {
			c.log.Info("the machine has slept", "for", slept.Round(time.Second))
			for _, s := range c.sessions() {
				s.Probe()
			}
			c.mu.Lock()
			c.nextDial, c.attempts, c.young = time.Time{}, 0, 0
			c.entries.forget()
			c.mu.Unlock()
		}
		lastWall, lastMono = now.Round(0), now
	}
}

// sessions are the present one and those that are being left.
func (c *Client) sessions() []*session.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.leaving)
	if c.session != nil {
		all = append(all, c.session)
	}
	return all
}

// leaveLocked puts the present session beside the one that is to follow: it has no more links than it has, and ends by
// itself.
func (c *Client) leaveLocked() {
	c.leaving = append(c.leaving, c.session)
	if n := len(c.leaving) - maxLeaving; n > 0 {
		for _, s := range c.leaving[:n] {
			s.Leave(0)
		}
	}
}

// sessionNow returns the session, beginning a new one if it has ended or takes nothing new.
func (c *Client) sessionNow() *session.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = slices.DeleteFunc(c.leaving, func(s *session.Session) bool { return s.Err() != nil })
	if s := c.session; s != nil {
		err := s.Err()
		switch {
		case err != nil:
			c.log.Info("the session ended: beginning another", "cause", err)
		case s.Leaving():
			c.log.Info("the gateway takes nothing new in this session: beginning another beside it")
			c.leaveLocked()
		default:
			return s
		}
	}
	c.load = load{}
	var id wire.SessionID
	rand.Read(id[:])
	c.session = session.New(session.Config{
		Role: session.Client, ID: id, Pool: c.pool, Logger: c.log, Shape: c.shape,
		Packet:  c.udp.Deliver,
		Changed: func() { c.tell(c.changed) },
	})
	if c.welcomed {
		c.ready = make(chan struct{})
	}
	select {
	case <-c.usable:
		c.usable = make(chan struct{})
	default:
	}
	c.welcomed = false
	clear(c.links)
	clear(c.since)
	clear(c.suspected)
	clear(c.opening)
	clear(c.entries.of)
	return c.session
}

// wantsLink reports whether another link should be dialled, making room for it if need be.
func (c *Client) wantsLink(s *session.Session) bool {
	st := s.Status()
	healthy, worst := 0, (*session.Link)(nil)
	for _, l := range st.Links {
		switch {
		case l.Sent+l.Received > linkBytes && !l.Draining:
			if healthy > 0 || len(st.Links) > 1 {
				l.Link.Retire()
			} else {
				return true // its successor first
			}
		case !l.Suspected && !l.Draining:
			healthy++
		case worst == nil:
			worst = l.Link // links come in order of age
		}
	}
	_, renew := c.identity.present(time.Now())
	want := c.cfg.Links
	if want == 0 {
		want = DefaultLinks
		if c.load.shared(st, time.Now()) {
			want++
		}
	}
	if renew && len(st.Links) <= want {
		want = healthy + 1 // a certificate is renewed on a new link
	}
	if healthy >= want {
		return false
	}
	if len(st.Links) > MaxLinks && worst != nil {
		worst.Close()
	}
	return true
}

// load watches what links carry. Both ends let several share the load only where the path loses what is sent on it, so
// that links that do show such a path, in either direction.
type load struct {
	looked  time.Time
	carried map[uint64]uint64 // bytes by link, when last looked
	until   time.Time         // for how long the last sharing that was seen counts
}

const (
	loadEvery = 3 * time.Second
	// loadBytes is what a link carries in that time if it shares the load.
	loadBytes = 512 << 10
	loadLasts = 10 * time.Minute
)

// shared reports whether several links have shared the load lately.
func (l *load) shared(st session.Status, now time.Time) bool {
	if now.Sub(l.looked) < loadEvery {
		return now.Before(l.until)
	}
	carried, busy := make(map[uint64]uint64, len(st.Links)), 0
	for _, ln := range st.Links {
		carried[ln.ID] = ln.Sent + ln.Received
		if before, known := l.carried[ln.ID]; known && carried[ln.ID]-before > loadBytes && now.Sub(l.looked) < 2*loadEvery {
			busy++
		}
	}
	if busy > 1 {
		l.until = now.Add(loadLasts)
	}
	l.looked, l.carried = now, carried
	return now.Before(l.until)
}

// dial makes one link and attaches it to s.
func (c *Client) dial(ctx context.Context, s *session.Session) error {
	began, links := time.Now(), s.Status().Links
	c.mu.Lock()
	entry := c.entries.next(links, began)
	ep, patience := c.entries.list[entry], c.entries.patience(entry, began)
	c.mu.Unlock()
	cert, renew := c.identity.present(time.Now())
	k := link.Knock{Transport: c.dialer.Transport(), KeyID: c.cfg.Key.ID, Secret: c.cfg.Key.Secret.Reveal(),
		Device: c.identity.key, Cert: cert, Session: s.ID(), Next: s.Next(),
		Features: uint64(c.shape)}
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
	conn, err := c.dialer.Dial(dialCtx, transport.Endpoint{Addr: ep.Addr(), Name: ep.Name, Pins: c.cfg.Key.Pins(), Opener: k})
	if err != nil {
		if ctx.Err() == nil {
			c.mu.Lock()
			c.entries.fail(entry, time.Now())
			c.mu.Unlock()
		}
		return err
	}
	// TCP's and TLS's handshakes were one round trip each.
	rtt := time.Since(began) / 2
	l, err := s.Attach(conn, session.LinkOptions{
		Transport: k.Transport, RTT: rtt,
		Handshake: func(t wire.Type, body []byte) (uint64, error) { return c.answered(s, t, body) },
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.opening[l.ID()] = l
		c.entries.of[l.ID()] = entry
		select {
		case <-c.usable:
		default:
			close(c.usable)
		}
	}
	return nil
}

// answered takes the gateway's answer to a HELLO. It runs on the link's reader.
func (c *Client) answered(s *session.Session, t wire.Type, body []byte) (uint64, error) {
	w, err := link.ParseAnswer(t, body)
	if err != nil {
		var refusal *link.Refusal
		c.mu.Lock()
		if c.session == s { // otherwise it is one more link for a session that is being left, which needs none
			c.lastErr = err
			c.attempts++
			if errors.As(err, &refusal) {
				c.refusal = refusal
				c.refusedBy = s
			}
		}
		c.mu.Unlock()
		c.tell(c.changed)
		return 0, err
	}
	if w.Cert != nil {
		if err := c.identity.store(w.Cert); err != nil {
			c.log.Warn("the device's certificate could not be kept", "err", err)
		}
	}
	s.SetEarlyWindow(w.Window)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s {
		return w.Next, nil // it is being left, or has ended
	}
	c.families = w.Families
	c.attempts, c.lastErr = 0, nil
	c.addrs = tunnelAddrs{w.Addr4, w.Addr6}
	c.udp.SetAddrs(w.Addr4, w.Addr6)
	if !c.welcomed {
		c.welcomed = true
		close(c.ready)
	}
	return w.Next, nil
}

// takeRefusal acts on a refusal: it is mended, waited out, or returned.
func (c *Client) takeRefusal() error {
	c.mu.Lock()
	r, s := c.refusal, c.refusedBy
	c.refusal, c.refusedBy = nil, nil
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	c.log.Info("the gateway refused a link", "cause", r.Error())
	wait := max(time.Duration(r.Retry)*time.Second, transport.DialSpacing)
	switch r.Cause {
	case wire.CauseSessionUnknown:
		// Either way sessionNow begins another. If links work the gateway is being replaced: the old process still carries
		// our streams, and its GOAWAY is on its way.
		if slices.ContainsFunc(s.Status().Links, func(l session.LinkStatus) bool { return l.Confirmed && !l.Suspected }) {
			s.Leave(leaveUnasked)
		} else {
			s.Close(flow.CodeSessionLost)
		}
	case wire.CauseCertExpired:
		c.identity.forget() // enrolling again finds the device's place
	case wire.CauseBusy, wire.CauseNoControl:
	case wire.CauseQuota:
		wait += mrand.N(quotaSpread) // when the month begins, everyone it hit comes back
	case wire.CauseClock:
		c.mu.Lock()
		c.lastErr = fmt.Errorf("%w: this machine's clock is %v off the gateway's: set it", r, r.ClockSkew(time.Now()))
		c.mu.Unlock()
	default:
		return &refusedError{r}
	}
	c.mu.Lock()
	c.nextDial = time.Now().Add(wait)
	c.mu.Unlock()
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
	c.lastErr = err
	c.attempts++
	c.log.Debug("dialling failed", "err", redact(err), "attempts", c.attempts)
	c.spaceLocked()
}

// proven is how old a link is of which one can say that the network lets it be. Some firewalls let every connection
// begin, and freeze it after some 25 packets.
const proven = 3 * time.Second

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
	c.spaceLocked()
}

// spaceLocked sets when the next dial may be: after the least spacing, doubled with every failure in a row.
func (c *Client) spaceLocked() {
	wait := min(transport.DialSpacing<<max(min(c.attempts, 10), min(c.young-spared, mostDead)), maxBackoff)
	if next := time.Now().Add(wait + mrand.N(wait/4)); next.After(c.nextDial) { // a refusal may have asked for more
		c.nextDial = next
	}
}

// errNoAnswer is how a link ended on which the gateway never answered.
var errNoAnswer = errors.New("the gateway did not answer behind the handshake")

// noticeOpeningLocked counts as failures the links that ended, or became suspected, before the gateway answered on
// them: a firewall that lets the handshake pass and swallows what follows must not see a storm of them.
func (c *Client) noticeOpeningLocked(st session.Status) {
	for id, l := range c.opening {
		i := slices.IndexFunc(st.Links, func(l session.LinkStatus) bool { return l.ID == id })
		switch {
		case i >= 0 && st.Links[i].Confirmed:
			delete(c.opening, id)
			if entry, ok := c.entries.of[id]; ok {
				c.entries.work(entry)
			}
		case i < 0 || st.Links[i].Suspected:
			delete(c.opening, id)
			if refusal := (*link.Refusal)(nil); !errors.As(l.Cause(), &refusal) { // which is an answer, and counted already
				if entry, ok := c.entries.of[id]; ok {
					c.entries.fail(entry, time.Now())
				}
				c.failedLocked(&transport.DialError{Transport: c.dialer.Transport(), Stage: transport.StageDoor, Err: errNoAnswer})
			}
		}
	}
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
