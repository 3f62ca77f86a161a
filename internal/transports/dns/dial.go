package dns

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

// Dialer dials gateways through resolvers; an Endpoint's Addr is the gateway's zone, its Name is not used, and its Opener
// must be a transport.Shader. It implements transport.Dialer.
type Dialer struct {
	// Resolvers are those to ask, see dnsclient.Resolver, in order; empty means those of the network, as they are at the time.
	Resolvers []dnsclient.Resolver
	// Network lists those of the network; nil means the system's.
	Network func() ([]dnsclient.Resolver, error)
	// LongestName is how long names may be; zero is MaxName, and if those do not pass, ShortName. Short names carry a
	// seventh of what long ones do. To keep to them from the first query on, where asking for a long name is a risk, set
	// ShortName.
	LongestName int
	// Rate is how many queries a second there may be at most; zero is DefaultRate.
	Rate float64
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error
	// Roots are whom resolvers' certificates are to be signed by; nil is the system's.
	Roots *x509.CertPool

	asked atomic.Int64 // queries

	mu      sync.Mutex
	known   map[string]known // by zone
	tickets tls.ClientSessionCache
}

// known is what worked the last time.
type known struct {
	resolver dnsclient.Resolver
	way      way
}

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// Queries is how many there were.
func (d *Dialer) Queries() int64 { return d.asked.Load() }

// Forget forgets what worked and the gateways' tickets: the network is another.
func (d *Dialer) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known, d.tickets = nil, nil
}

// resumes reports whether a ticket saves more than it costs. It makes the client's hello longer by some 190 bytes and
// spares the gateway 420 of certificate and signature, but queries hold far less than answers: with the longest of both it
// takes one query more with a ticket than without, and none where answers are cut to 512 bytes.
func (c *channel) resumes() bool {
	const costs, saves = 190, 420
	down := c.downSegment()
	if c.way.size > minMessage {
		down = maxMessage - minMessage + down
	}
	return saves*c.upSegment() > costs*down
}

// burst is how many queries may come at once: a page with a few names in it.
const burst = 8

// Dial implements transport.Dialer.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	fail := func(stage transport.Stage, err error) (transport.Conn, error) {
		return nil, &transport.DialError{Transport: Name, Stage: stage, Err: err}
	}
	zone := strings.ToLower(strings.TrimSuffix(ep.Addr, "."))
	if err := CheckZone(zone); err != nil {
		return fail(transport.StageLookup, err)
	}
	holders, ok := ep.Opener.(transport.Shader)
	if !ok {
		return fail(transport.StageLookup, errNoShade)
	}
	d.mu.Lock()
	if d.tickets == nil {
		d.tickets = tls.NewLRUClientSessionCache(8)
	}
	if d.known == nil {
		d.known = make(map[string]known)
	}
	tickets := d.tickets
	k, warm := d.known[zone]
	d.mu.Unlock()

	perSecond := d.Rate
	if perSecond == 0 {
		perSecond = DefaultRate
	}
	base := channel{
		zone: zone, key: newKey(holders, zone), longest: MaxName, rate: rate.Limit(perSecond),
		limiter: rate.NewLimiter(rate.Limit(perSecond), max(burst, int(perSecond/100))), asked: &d.asked,
	}
	if d.LongestName != 0 {
		base.longest = min(d.LongestName, MaxName)
	}
	var session [4]byte
	rand.Read(session[:])
	s := dnsclient.Sockets{Control: d.Control, Roots: d.Roots}
	if !warm {
		resolvers := d.Resolvers
		if len(resolvers) == 0 {
			list := d.Network
			if list == nil {
				list = dnsclient.System
			}
			var err error
			if resolvers, err = list(); err != nil {
				return fail(transport.StageLookup, err)
			}
		}
		var err error
		if k, base.Exchanger, err = probe(ctx, base, s, resolvers, binary.BigEndian.Uint32(session[:])); err != nil {
			return fail(transport.StageConnect, err)
		}
	} else {
		base.Exchanger = k.resolver.Exchanger(s)
	}
	base.way = k.way
	if !base.resumes() {
		tickets = nil
	}
	t := newTunnel(&base, binary.BigEndian.Uint32(session[:]))
	c, err := pipe.Resume(ctx, t, Name, ep, tickets)
	d.mu.Lock()
	if err != nil {
		delete(d.known, zone)
	} else if d.known != nil {
		d.known[zone] = k
	}
	d.mu.Unlock()
	if err != nil && warm && !errors.Is(err, transport.ErrPin) && ctx.Err() == nil {
		return d.Dial(ctx, ep) // what worked the last time works no more
	}
	return c, err
}

// probeGap is how long one way is tried until the next one is tried as well.
const probeGap = 600 * time.Millisecond

var (
	errNoShade = transport.Reason("the opener knows nothing that strangers do not")
	errNoWay   = transport.Reason("no resolver passes on what the gateway's zone answers")
	errTooLong = transport.Reason("the zone leaves no room in names of the length allowed")
)

// probe finds the way that works: it asks for an answer as long as can be in a name as long as can be. The next way is
// tried when one fails, or takes long. The exchanger is the caller's.
func probe(ctx context.Context, base channel, s dnsclient.Sockets, resolvers []dnsclient.Resolver, session uint32) (_ known, won dnsclient.Exchanger, _ error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	exchangers := make([]dnsclient.Exchanger, len(resolvers))
	for i, r := range resolvers {
		exchangers[i] = r.Exchanger(s)
	}
	defer func() {
		cancel()
		running.Wait()
		for _, e := range exchangers {
			if e != won {
				e.Close()
			}
		}
	}()
	type result struct {
		known
		dnsclient.Exchanger
		err error
	}
	results := make(chan result, len(ways)*len(resolvers)) // one for each, so that nobody waits
	next := time.NewTimer(0)
	defer next.Stop()
	started, ended := 0, 0
	var all []channel
	var at []dnsclient.Resolver
	for _, w := range ways {
		for i, r := range resolvers {
			c := base
			c.way, c.Exchanger = w, exchangers[i]
			if c.works() {
				all, at = append(all, c), append(at, r)
			}
		}
	}
	if len(all) == 0 {
		return known{}, nil, errTooLong
	}
	for {
		select {
		case <-ctx.Done():
			return known{}, nil, fmt.Errorf("%w: %w", errNoWay, ctx.Err())
		case r := <-results:
			if r.err == nil {
				return r.known, r.Exchanger, nil
			}
			if ended++; ended == len(all) {
				return known{}, nil, errNoWay
			}
			next.Reset(0)
			if started == len(all) {
				next.Stop()
			}
		case <-next.C:
			if started == len(all) {
				continue
			}
			c, r := all[started], at[started]
			started++
			next.Reset(probeGap)
			n := uint16(started)
			running.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, mostPatience)
				defer cancel()
				err := c.probe(ctx, session, n)
				results <- result{known{r, c.way}, c.Exchanger, err}
			})
		}
	}
}

// probe asks for a long answer under a long name.
func (c *channel) probe(ctx context.Context, session uint32, nonce uint16) error {
	if err := c.limiter.Wait(ctx); err != nil {
		return err
	}
	q := &query{session: session & 0xffffff, nonce: nonce, kind: kindProbe, mode: c.way.mode, size: c.way.size}
	q.packet = make([]byte, nameRoom(c.names(), c.zone)-tagLen-queryHead)
	plain, err := c.ask(ctx, q)
	if err == nil && len(plain) < answerHead+packetHead+pushHead+c.downSegment() {
		err = dnsclient.ErrTruncated
	}
	return err
}
