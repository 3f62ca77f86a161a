package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/netip"
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

const (
	// maxBackoff bounds the wait between dials that fail.
	maxBackoff = time.Minute
	// quotaSpread is how long after the moment that a gateway named a client whose quota was used up asks again, at most.
	quotaSpread = 10 * time.Minute
	// lookEvery is how often the clock is looked at for a sleep of the machine, and the network for another one.
	lookEvery = 3 * time.Second
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
	lastWall, lastMono := time.Now().Round(0), time.Now()
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
			c.mu.Lock()
			c.nextDial = later(c.nextDial, d.began.Add(transport.DialSpacing+mrand.N(transport.DialSpacing/4)))
			c.mu.Unlock()
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
		// The monotonic clock stands still while the machine sleeps, the wall clock does not.
		now := time.Now()
		slept := now.Round(0).Sub(lastWall) - now.Sub(lastMono)
		if slept > 5*time.Second {
			c.log.Info("the machine has slept", "for", slept.Round(time.Second))
		}
		if c.lookAtNetwork(false) || slept > 5*time.Second {
			c.mu.Lock()
			c.anewLocked()
			c.mu.Unlock()
			for _, d := range under {
				d.lose() // it goes out by a network that is no more
			}
			c.tryLinks()
		}
		lastWall, lastMono = now.Round(0), now
	}
}

// pace waits until another connection may be begun, and takes its turn: a dial that needs a second one must not begin it
// beside somebody else's.
func (c *Client) pace(ctx context.Context) error {
	for {
		c.mu.Lock()
		now := time.Now()
		wait := c.nextDial.Sub(now)
		if wait <= 0 {
			c.nextDial = now.Add(transport.DialSpacing + mrand.N(transport.DialSpacing/4))
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

// nextDialling says which way is to be dialled next, and how soon; ok is false if none is.
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
	switch {
	case missing > 0 && len(under) < min(missing+slow, MaxLinks):
		var at time.Time
		way, at = c.ways.Next(now, have, busy)
		if slices.ContainsFunc(busy, func(d dialer.Dial) bool { return d.Way == way }) {
			return 0, 0, false // a second dial the same way would meet what the first one meets
		}
		next = later(next, at)
	case missing > 0 && len(under) < MaxLinks && slow == 0:
		return 0, slowDial, len(under) > 0 && c.ways.Len() > len(under)
	case missing > 0:
		return 0, 0, false
	default:
		if way, ok = c.ways.Explore(now, have, busy); !ok {
			return 0, 0, false
		}
	}
	return way, next.Sub(now), true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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

// dial makes one link, by this way, and attaches it to s.
func (c *Client) dial(ctx context.Context, s *session.Session, way int) error {
	began, ep := time.Now(), c.places[way]
	c.mu.Lock()
	transportName, patience := c.ways.Way(way).Transport, c.ways.Patience(way, began)
	c.mu.Unlock()
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
	to := transport.Endpoint{Addr: c.ways.Way(way).Addr, Name: ep.Name, Pins: c.cfg.Key.Pins(), Opener: k, Fragment: c.fragment, Pace: c.pace}
	if r := ep.Relay; r != nil {
		via := transport.Endpoint{Addr: to.Addr, Name: to.Name, Pins: [][32]byte{r.Pin}, Fragment: c.fragment,
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
	if next := time.Now().Add(wait + mrand.N(wait/4)); next.After(c.nextDial) { // a refusal may have asked for more
		c.nextDial = next
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
