package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

const (
	positiveTTL   = 60 * time.Second // also the longest that a name is remembered after the session that asked for it
	negativeTTL   = 5 * time.Second
	maxNames      = 4096
	maxLookups    = 512 // under way at once
	maxAddrs      = 32  // kept of one name
	lookupTimeout = 8 * time.Second
	// sweepEvery keeps the sweeper from running all the time when answers expire one by one.
	sweepEvery = time.Second
)

// resolver remembers answers for a short while and asks for each name once at a time.
type resolver struct {
	lookup NameLookup
	asked  atomic.Uint64
	cached atomic.Uint64
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	known   map[question]answer
	flights map[question]*flight
	sweeper *time.Timer // armed for sweepAt while known is not empty
	sweepAt time.Time
}

// question is a name and the network to look it up for: "ip", "ip4" or "ip6".
type question struct{ name, network string }

// answer holds addrs, which nobody alters, or err.
type answer struct {
	addrs []netip.Addr
	err   error
	until time.Time
}

// flight is a lookup under way. It ends when nobody waits for it any more.
type flight struct {
	done    chan struct{} // closed once answer is set
	answer  answer
	waiting int // under the resolver's mu
	cancel  context.CancelFunc
}

func newResolver(l NameLookup) *resolver {
	r := &resolver{lookup: l, known: make(map[question]answer), flights: make(map[question]*flight)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *resolver) resolve(ctx context.Context, q question) ([]netip.Addr, error) {
	r.asked.Add(1)
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errClosed
	}
	if a, ok := r.known[q]; ok && time.Now().Before(a.until) {
		r.mu.Unlock()
		r.cached.Add(1)
		return a.addrs, a.err
	}
	f := r.flights[q]
	if f == nil {
		if len(r.flights) >= maxLookups {
			r.mu.Unlock()
			return nil, flow.Errorf(flow.CodeBusy, "too many names are being looked up")
		}
		f = &flight{done: make(chan struct{})}
		var fctx context.Context
		fctx, f.cancel = context.WithTimeout(r.ctx, lookupTimeout)
		r.flights[q] = f
		r.wg.Go(func() { r.fly(fctx, q, f) })
	}
	f.waiting++
	r.mu.Unlock()

	select {
	case <-f.done:
		return f.answer.addrs, f.answer.err
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
			if r.flights[q] == f {
				delete(r.flights, q) // so that the next to ask does not wait for a lookup that was given up
			}
		}
		return nil, ctxError(ctx, "looking the name up")
	}
}

func (r *resolver) fly(ctx context.Context, q question, f *flight) {
	defer f.cancel()
	addrs, err := r.lookup.LookupNetIP(ctx, q.network, q.name+".")
	a := answer{err: lookupError(err), until: time.Now().Add(positiveTTL)}
	for _, addr := range addrs[:min(len(addrs), maxAddrs)] {
		a.addrs = append(a.addrs, addr.Unmap())
	}
	if a.err == nil && len(a.addrs) == 0 {
		a.err = flow.Errorf(flow.CodeNameNotFound, "the name has no address")
	}
	if a.err != nil {
		a.addrs, a.until = nil, time.Now().Add(negativeTTL)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f.answer = a
	close(f.done)
	if r.flights[q] != f {
		return // given up
	}
	delete(r.flights, q)
	if r.closed {
		return
	}
	if len(r.known) >= maxNames {
		for other := range r.known {
			delete(r.known, other)
			break
		}
	}
	r.known[q] = a
	if r.sweeper == nil || a.until.Before(r.sweepAt) {
		r.sweepByLocked(a.until)
	}
}

func (r *resolver) sweepByLocked(t time.Time) {
	if r.sweeper != nil {
		r.sweeper.Stop()
	}
	r.sweepAt = t
	r.sweeper = time.AfterFunc(time.Until(t), r.sweep)
}

// sweep forgets what has expired, so that no name outlives its time for want of another question.
func (r *resolver) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	next := time.Time{}
	for q, a := range r.known {
		if !now.Before(a.until) {
			delete(r.known, q)
		} else if next.IsZero() || a.until.Before(next) {
			next = a.until
		}
	}
	r.sweeper = nil
	if next.IsZero() || r.closed {
		return
	}
	if soon := now.Add(sweepEvery); next.Before(soon) {
		next = soon
	}
	r.sweepByLocked(next)
}

func (r *resolver) close() {
	r.mu.Lock()
	r.closed = true
	r.known = nil
	if r.sweeper != nil {
		r.sweeper.Stop()
		r.sweeper = nil
	}
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
}

// lookupError keeps the code of a resolver's error and leaves out the name.
func lookupError(err error) error {
	var dns *net.DNSError
	var fe *flow.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fe):
		return fe
	case errors.As(err, &dns) && dns.IsNotFound:
		return flow.Errorf(flow.CodeNameNotFound, "the name does not exist or has no address")
	}
	return flow.Errorf(flow.CodeNameFailed, "the name could not be looked up")
}

// ctxError says why ctx ended.
func ctxError(ctx context.Context, doing string) *flow.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return flow.Errorf(flow.CodeTimeout, "timed out %s", doing)
	}
	return flow.Errorf(flow.CodeReset, "cancelled %s", doing)
}

// Resolve looks name up where the traffic leaves. It returns only addresses that could be gone to: what is refused, or
// of an IP version without a way out, is left out.
func (s *Sockets) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	t, err := flow.NewTarget(name, 1)
	if err != nil {
		return nil, err
	}
	addrs, err := s.addrsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	return s.pick(addrs, s.admitAddr)
}

// addrsOf is t's address, or those its name has.
func (s *Sockets) addrsOf(ctx context.Context, t flow.Target) ([]netip.Addr, error) {
	if a, ok := t.Addr(); ok {
		return []netip.Addr{a}, nil
	}
	if !validName(t.Host) {
		return nil, flow.Errorf(flow.CodeNameNotFound, "not a name that a host can have")
	}
	return s.resolver.resolve(ctx, question{t.Host, s.lookupNetwork()})
}

// lookupNetwork asks for no addresses of an IP version that has no way out, unless Allow has a prefix of it.
func (s *Sockets) lookupNetwork() string {
	want := s.Families()
	for _, p := range s.policy.allow {
		want |= familyOf(p.Addr())
	}
	switch want {
	case flow.IPv4:
		return "ip4"
	case flow.IPv6:
		return "ip6"
	}
	return "ip"
}

// pick keeps the addresses that are admitted, or says why none is.
func (s *Sockets) pick(addrs []netip.Addr, admit func(netip.Addr) *flow.Error) ([]netip.Addr, error) {
	var kept []netip.Addr
	var worst *flow.Error
	for _, a := range addrs {
		err := admit(a)
		if err == nil {
			kept = append(kept, a)
		} else if worst == nil || tells(err.Code) > tells(worst.Code) {
			worst = err
		}
	}
	if len(kept) == 0 {
		return nil, worst
	}
	return kept, nil
}
