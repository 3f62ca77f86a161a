// Package names answers a machine's DNS questions through the tunnel, so that none leaves beside it. It remembers which
// names it gave which addresses out for, which is how a connection to an address is known to be one to a name.
//
//	message ─ a special name ───────────────────────── answered here (RFC 6761)
//	        ─ A, AAAA, where names come first ──────── an address that stands for the name
//	        ─ known ────────────────────────────────── answered from memory
//	        ─ of a domain with a resolver of its own ─ that resolver, inside or outside of the tunnel
//	        ─ any other ────────────────────────────── the gateway, over one stream to flow.ResolverTarget
package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnscache"
	"github.com/godwit-vpn/godwit/internal/flow"
)

const (
	// answerTimeout is when an application is told that there is no answer; most ask again by then.
	answerTimeout = 5 * time.Second
	// staleTime is how long after their end answers are good while there is no link (RFC 8767).
	staleTime = time.Minute
	// streamAge is how long one stream is used. Another costs no round trip, and a session that is to be left ends only with
	// its last stream.
	streamAge = time.Minute
	// syntheticTTL is short, so that nobody keeps an address that means something here alone.
	syntheticTTL = 1
)

// streamLimits bound one application's connection.
var streamLimits = dnsmessage.Limits{AtOnce: 64, Idle: time.Minute, Write: 10 * time.Second}

// Upstream is a resolver for some domain.
type Upstream struct {
	Resolver dnsclient.Resolver
	// List, if not nil, is whom to ask instead, as they are at the time. They take a Dial.
	List func() ([]dnsclient.Resolver, error)
	// Dial reaches it, as a net.Dialer's DialContext; nil goes through the tunnel, by TCP if the resolver is one for UDP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Config says how questions are answered. Zero values mean what each field says.
type Config struct {
	// Outside is the tunnel. Required.
	Outside flow.Opener
	// Linked reports whether the tunnel has a link; nil means always. While it has none, answers that have expired less than
	// a minute ago are given at once.
	Linked func() bool
	// Split sends questions about a domain, and all below it, to a resolver of its own. The longest domain counts.
	Split map[string]Upstream
	// NamesFirst, if not empty, has A and AAAA answered at once, with addresses that stand for names, out of the first IPv4
	// and the first IPv6 prefix in it; without one of a kind there are no answers of that kind. Hints at addresses in answers
	// of types HTTPS and SVCB are left out then. Not so for names that mean something in some network only, those of Split,
	// and those below arpa.
	NamesFirst []netip.Prefix
	// Cache is how many answers are kept; 0 means 4096.
	Cache int
}

// Server answers a machine's DNS questions through the tunnel. Safe for concurrent use. Close it.
type Server struct {
	cfg    Config
	tunnel dnsclient.Exchanger
	split  map[string]*dnsclient.Client
	cache  *dnscache.Cache

	given *table // real addresses
	first *first // synthetic ones; nil if names do not come first
}

// New returns a Server that knows nothing yet. It opens its stream with the first question.
func New(c Config) *Server {
	s := &Server{cfg: c, split: make(map[string]*dnsclient.Client), given: newTable(maxGiven)}
	s.tunnel = dnsclient.OverStream(func(ctx context.Context) (net.Conn, error) {
		return c.Outside.Open(ctx, flow.ResolverTarget, true)
	}, streamAge)
	for domain, up := range c.Split {
		r, sockets := up.Resolver, dnsclient.Sockets{Dial: up.Dial}
		if up.Dial == nil {
			r, sockets.Dial = r.ByStream(), s.dialOutside
		}
		client := dnsclient.NewClient(sockets, r)
		if up.List != nil {
			client = dnsclient.NewListClient(sockets, up.List)
		}
		s.split[strings.ToLower(strings.Trim(domain, "."))] = client
	}
	if len(c.NamesFirst) > 0 {
		s.first = newFirst(c.NamesFirst)
	}
	s.cache = dnscache.New(dnscache.Config{Ask: s.ask, Timeout: answerTimeout, Entries: c.Cache, Stale: staleTime, Linked: c.Linked})
	return s
}

// Close ends what is under way and the stream.
func (s *Server) Close() {
	s.cache.Close()
	s.tunnel.Close()
	for _, c := range s.split {
		c.Close()
	}
}

// Forget forgets all answers: the tunnel leads elsewhere now. What addresses were given out for is remembered.
func (s *Server) Forget() { s.cache.Forget() }

// Anew is for when the machine has another network: resolvers that are asked past the tunnel are dialled anew, and what they said
// is forgotten.
func (s *Server) Anew() {
	past := false
	for domain, up := range s.cfg.Split {
		if up.Dial != nil {
			past = true
			s.split[strings.ToLower(strings.Trim(domain, "."))].Anew()
		}
	}
	if past {
		s.cache.Forget()
	}
}

func (s *Server) dialOutside(ctx context.Context, _, addr string) (net.Conn, error) {
	t, err := flow.ParseTarget(addr)
	if err != nil {
		return nil, err
	}
	return s.cfg.Outside.Open(ctx, t, false)
}

// Answer answers one message. max is how long an answer by UDP may be, at most what the question itself allows for; 0 is
// for streams, whose answers are never cut. What cannot be read is answered with FORMERR or, if nothing is to be said to
// it, with nil.
func (s *Server) Answer(ctx context.Context, query []byte, max int) []byte {
	q, refusal, ok := dnsmessage.ParseQuery(query)
	if !ok {
		return refusal
	}
	if a := s.here(q.Question); a != nil {
		return q.Reply(a, 0, max)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	a, age, err := s.cache.Answer(ctx, q.Question)
	if err != nil {
		return q.Fail(dnsmessage.ServFail)
	}
	if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA {
		name := q.Name()
		a.Addrs(func(addr netip.Addr, ttl time.Duration) { s.given.put(addr, name, ttl-min(age, ttl)+keepGiven) })
	}
	return q.Reply(a, age, max)
}

// here answers what nobody else needs to be asked.
func (s *Server) here(q dnsmessage.Question) *dnsmessage.Answer {
	name := q.Name()
	own := s.upstream(name) != nil
	if a := dnsmessage.Special(q); a != nil && (!own || dnsmessage.Below(name, "localhost")) {
		return a
	}
	if s.first == nil || own || q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA || !comesFirst(name) {
		return nil
	}
	addr, ok := s.first.addr(name, q.Type == dnsmessage.TypeAAAA)
	if !ok {
		return q.Made(dnsmessage.Success)
	}
	return q.Made(dnsmessage.Success, dnsmessage.Record{Type: q.Type, TTL: syntheticTTL, Data: addr.AsSlice()})
}

// upstream is the resolver of the longest domain that a name is in, or nil.
func (s *Server) upstream(name string) *dnsclient.Client {
	if len(s.split) == 0 {
		return nil
	}
	for {
		if c := s.split[name]; c != nil {
			return c
		}
		_, rest, more := strings.Cut(name, ".")
		if !more {
			return nil
		}
		name = rest
	}
}

// Splits reports whether a name is of a domain that has a resolver of its own.
func (s *Server) Splits(name string) bool { return s.upstream(name) != nil }

// ask has somebody else answer.
func (s *Server) ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	if c := s.upstream(q.Name()); c != nil {
		return c.Ask(ctx, q)
	}
	a, err := dnsclient.Exchange(ctx, s.tunnel, q)
	if err != nil && ctx.Err() == nil && !errors.Is(err, dnsclient.ErrNoAnswer) {
		a, err = dnsclient.Exchange(ctx, s.tunnel, q) // the stream broke, or had ended: by another one, once
	}
	if err == nil && s.first != nil && (q.Type == dnsmessage.TypeHTTPS || q.Type == dnsmessage.TypeSVCB) {
		a = withoutHints(q, a)
	}
	return a, err
}

// NameOf is the name that an address was lately given out for, real or not. Of several it is the last.
func (s *Server) NameOf(a netip.Addr) (name string, ok bool) {
	a = a.Unmap()
	if s.first != nil {
		if name, ok := s.first.nameOf(a); ok {
			return name, true
		}
	}
	return s.given.get(a)
}

// Synthetic reports whether an address is one that stands for a name, known or not: nobody is to be sent there.
func (s *Server) Synthetic(a netip.Addr) bool { return s.first != nil && s.first.has(a.Unmap()) }

// Resolve is a name's own addresses, of IPv4 or of IPv6, whatever stands for it: answers are kept as those for applications are.
func (s *Server) Resolve(ctx context.Context, name string, six bool) ([]netip.Addr, error) {
	typ := uint16(dnsmessage.TypeA)
	if six {
		typ = dnsmessage.TypeAAAA
	}
	q, ok := dnsmessage.NewQuestion(name, typ)
	if !ok {
		return nil, flow.Errorf(flow.CodeBadTarget, "not a name")
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	a, _, err := s.cache.Answer(ctx, q)
	if err != nil {
		return nil, flow.Errorf(flow.CodeNameFailed, "looking a name up: %v", err)
	}
	var addrs []netip.Addr
	a.Addrs(func(addr netip.Addr, _ time.Duration) { addrs = append(addrs, addr) })
	if len(addrs) == 0 {
		return nil, &flow.Error{Code: flow.CodeNameNotFound}
	}
	return addrs, nil
}

// Serve answers the questions of one connection over TCP, until it ends or ctx is done. It owns conn.
func (s *Server) Serve(ctx context.Context, conn net.Conn) error {
	return dnsmessage.ServeStream(ctx, conn, streamLimits, func(ctx context.Context, query []byte) []byte {
		return s.Answer(ctx, query, 0)
	})
}
