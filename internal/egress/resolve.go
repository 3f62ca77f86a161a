package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnscache"
	"github.com/godwit-vpn/godwit/internal/flow"
)

const (
	positiveTTL   = 60 * time.Second // also the longest that a name is remembered after the session that asked for it
	negativeTTL   = 5 * time.Second
	maxNames      = 4096
	maxLookups    = 512 // under way at once
	maxAddrs      = 32  // kept of one name
	lookupTimeout = 8 * time.Second
)

// resolver remembers names' addresses for a short while and asks for each name once at a time.
type resolver struct {
	lookup NameLookup
	cache  *dnscache.Cache
}

// typeBoth asks for addresses of both IP versions at once, as a NameLookup can. In DNS it is any type.
const typeBoth = 255

func newResolver(l NameLookup) *resolver {
	r := &resolver{lookup: l}
	r.cache = dnscache.New(dnscache.Config{Ask: r.ask, Timeout: lookupTimeout, Entries: maxNames, Bytes: maxNames << 11,
		Asking: maxLookups})
	return r
}

// resolve looks a valid name up, for A, AAAA, or typeBoth.
func (r *resolver) resolve(ctx context.Context, name string, typ uint16) ([]netip.Addr, error) {
	q, ok := dnsmessage.NewQuestion(name, typ)
	if !ok {
		return nil, flow.Errorf(flow.CodeNameNotFound, "not a name that a host can have")
	}
	a, _, err := r.cache.Answer(ctx, q)
	switch {
	case errors.Is(err, dnscache.ErrClosed):
		return nil, errClosed
	case errors.Is(err, dnscache.ErrBusy):
		return nil, flow.Errorf(flow.CodeBusy, "too many names are being looked up")
	case err != nil:
		return nil, ctxError(ctx, "looking the name up")
	case a.Code == dnsmessage.ServFail:
		return nil, flow.Errorf(flow.CodeNameFailed, "the name could not be looked up")
	}
	var addrs []netip.Addr
	a.Addrs(func(addr netip.Addr, _ time.Duration) { addrs = append(addrs, addr) })
	if len(addrs) == 0 {
		return nil, flow.Errorf(flow.CodeNameNotFound, "the name does not exist or has no address")
	}
	return addrs, nil
}

// ask makes a DNS answer of what the lookup says, so that the cache can keep it. It keeps failures, too, and so never fails.
func (r *resolver) ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	network := map[uint16]string{dnsmessage.TypeA: "ip4", dnsmessage.TypeAAAA: "ip6", typeBoth: "ip"}[q.Type]
	addrs, err := r.lookup.LookupNetIP(ctx, network, q.Name()+".")
	var records []dnsmessage.Record
	for _, addr := range addrs[:min(len(addrs), maxAddrs)] {
		addr = addr.Unmap()
		typ := uint16(dnsmessage.TypeAAAA)
		if addr.Is4() {
			typ = dnsmessage.TypeA
		}
		records = append(records, dnsmessage.Record{Type: typ, Data: addr.AsSlice()})
	}
	var dns *net.DNSError
	var a *dnsmessage.Answer
	switch {
	case err == nil && len(records) > 0:
		a = q.Made(dnsmessage.Success, records...)
		a.TTL = positiveTTL
		return a, nil
	case err == nil, errors.As(err, &dns) && dns.IsNotFound:
		a = q.Made(dnsmessage.NXDomain)
	default:
		a = q.Made(dnsmessage.ServFail)
	}
	a.TTL = negativeTTL
	return a, nil
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
	return s.resolver.resolve(ctx, t.Host, s.lookupType())
}

// lookupType asks for no addresses of an IP version that has no way out, unless Allow has a prefix of it.
func (s *Sockets) lookupType() uint16 {
	want := s.Families()
	for _, p := range s.policy.allow {
		want |= familyOf(p.Addr())
	}
	switch want {
	case flow.IPv4:
		return dnsmessage.TypeA
	case flow.IPv6:
		return dnsmessage.TypeAAAA
	}
	return typeBoth
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
