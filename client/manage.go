package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	// lookEvery is how often it is looked whether the machine has slept, or is in another network.
	lookEvery = 3 * time.Second
	// sleptLong is how long a sleep is after which links are tried at once: rather than wait until they are found dead.
	sleptLong = 5 * time.Second
	// linkBytes is how much one link carries before it is replaced, far below what one AES-GCM key may protect
	// (RFC 8446 §5.5: 2^24.5 full records).
	linkBytes = 128 << 30
	// leaveUnasked is for how long a session is left that the gateway does not know any more, if nobody says.
	leaveUnasked = time.Hour
)

type tunnelAddrs struct{ v4, v6 netip.Addr }

// manage keeps a session, and links for it.
func (c *Client) manage(ctx context.Context) error {
	ends := make(chan dialEnd)
	var under []*dialling // dials that are under way
	defer func() {
		for _, d := range under {
			d.cancel()
		}
		for range under {
			<-ends
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	c.lookAtNetwork(true)
	asleep := c.asleep()
	for {
		s := c.sessionNow()
		c.notice(s)
		wait := lookEvery
		if c.cfg.Links == 0 && s.Status().Streams > 0 {
			wait = min(wait, loadEvery)
		}
		missing := c.missingLinks(s)
		switch way, due, ok := c.nextDialling(s, missing, under); {
		case ok && due <= 0:
			d := &dialling{way: way, began: time.Now()}
			var dialCtx context.Context
			dialCtx, d.cancel = context.WithCancel(ctx)
			under = append(under, d)
			go func() { ends <- dialEnd{d, c.dial(dialCtx, s, way)} }()
			wait = 0 // perhaps another one
		case ok:
			wait = min(wait, due)
		case missing == 0:
			for _, d := range under {
				c.overtaken(d) // there are enough links without it
			}
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		case <-c.poke:
		case <-timer.C:
		case end := <-ends:
			end.cancel()
			under = slices.DeleteFunc(under, func(d *dialling) bool { return d == end.dialling })
			if end.err == nil || !end.lost {
				c.dialEnded(end.err)
			}
		}
		if err := c.takeRefusal(); err != nil {
			return err
		}
		now := c.asleep()
		slept := now - asleep
		asleep = now
		if slept > sleptLong {
			c.log.Info("the machine has slept", "for", slept.Round(time.Second))
		}
		if c.lookAtNetwork(false) || slept > sleptLong {
			c.mu.Lock()
			c.anewLocked()
			c.mu.Unlock()
			for _, d := range under {
				d.lose() // it goes out by a network that is no more
			}
			c.tryLinks()
		}
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
		Packet:  c.deliver,
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
	return c.session
}

// missingLinks is how many links should be dialled, making room for them if need be.
func (c *Client) missingLinks(s *session.Session) int {
	st := s.Status()
	healthy, worst, successor := 0, (*session.Link)(nil), 0
	for _, l := range st.Links {
		switch {
		case l.Sent+l.Received > linkBytes && !l.Draining:
			if healthy > 0 || len(st.Links) > 1 {
				l.Link.Retire()
			} else {
				successor = 1 // first
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
	missing := max(want-healthy, successor)
	if missing > 0 && len(st.Links) > MaxLinks && worst != nil {
		worst.Close()
	}
	if healthy > want {
		c.retireWorst(st)
	}
	return missing
}

// retireWorst takes a link out of use that was a makeshift, once one of a better kind has proven itself.
func (c *Client) retireWorst(st session.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var worst *tracked
	best := -1
	for _, l := range st.Links {
		r := c.links[l.ID]
		if r == nil || l.Suspected || l.Draining {
			continue
		}
		if r.lived && (best < 0 || c.ways.Better(r.way, best)) {
			best = r.way
		}
		if worst == nil || c.ways.Better(worst.way, r.way) {
			worst = r
		}
	}
	if worst != nil && best >= 0 && c.ways.Better(best, worst.way) {
		worst.link.Retire()
	}
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
	c.families, c.forwards = w.Families, w.Flags&wire.WelcomeForward != 0
	c.attempts, c.lastErr = 0, nil
	c.looped.Store(false)
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
