// Package egress is how a gateway reaches the world for its sessions with ordinary sockets, as an ordinary user: it
// looks names up, dials TCP, and gives every inner UDP port a socket of its own.
//
//	Dial     the reserved name ─ DNS messages, answered here: see questions
//	         name ─ lookup ─ policy ─ race of addresses (RFC 8305) ─ policy again, in the socket's hook ─ connect
//	         name ─ policy for literals ─ upstream SOCKS5 proxy, which looks the name up
//	Packets  inner packet ─ checks ─ policy ─ mapping (RFC 4787) ─ UDP socket
//	         UDP socket ─ policy, filter ─ inner packet ─ send
//
// What may be reached is decided by one policy, on addresses, for streams and packets alike: see policy. Nothing here
// logs, counts or keeps where anybody went, but for answers of the resolver, for a minute and for nobody in particular.
package egress

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnscache"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// NameLookup looks names up; *net.Resolver does. Names are given absolute, with a trailing dot, so that no search list
// applies.
type NameLookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Hop4 and Hop6 are what traceroute shows of a gateway. No session has any of them.
var (
	Hop4 = netip.MustParseAddr("100.64.0.1")
	Hop6 = netip.MustParseAddr("fd67:6f64:7769:7402::1")
)

// Config says what may be reached and how. The zero Config is a gateway on the public internet.
type Config struct {
	// Log is told about the gateway's own condition, never about destinations; nil discards.
	Log *slog.Logger
	// Resolver answers sessions' DNS questions and names' addresses: "192.0.2.53", "tcp://192.0.2.53", "tls://dns.example" or
	// "https://dns.example/dns-query"; empty is the system's. The policy does not apply to it.
	Resolver string
	// ResolverRoots are whom the resolver's certificate is to be signed by; nil is the system's.
	ResolverRoots *x509.CertPool
	// Lookup finds names' addresses; nil is Resolver.
	Lookup NameLookup

	// Allow opens prefixes that are refused by default, such as a site's own network. It does not open what is not one
	// host, Own, addresses that carry a refused IPv4 address, or a metadata service, unless that alone is named.
	Allow []netip.Prefix
	// Own are the gateway's listeners, as far as they have addresses that are not on its interfaces (those are refused
	// anyway) or that Allow opens. Port 0 means every port, an unspecified address every local one.
	Own []netip.AddrPort
	// ClosedPorts are TCP and UDP ports that nobody may reach; nil means 25, an empty list none.
	ClosedPorts []uint16
	// NAT64 are prefixes, besides 64:ff9b::/96, whose addresses carry an IPv4 address (RFC 6052). They are judged by it.
	NAT64 []netip.Prefix

	// Source4 and Source6 are the local addresses to leave by; the zero value leaves it to the routes.
	Source4, Source6 netip.Addr
	// Router makes Packets one of the routers on the packets' way, as traceroute sees it.
	Router bool
	// Control, if not nil, is called for every socket of Packets before it is bound (net.ListenConfig.Control).
	Control func(network, address string, c syscall.RawConn) error
	// Upstream is a proxy for all TCP, "socks5://[user:password@]host:port"; empty is none. It looks names up itself, so
	// that the policy can only check literal addresses and names that mean something inside a network. There is no UDP
	// then. Resolve goes on to use Lookup.
	Upstream string
	// Families overrides what is found out by looking at the routes, or assumed of an upstream (IPv4); 0 does not.
	Families flow.Families

	// SessionMappings bounds the UDP mappings of a session, MaxMappings those of all; 0 means 512 and 8192. Each takes a
	// file descriptor.
	SessionMappings, MaxMappings int
	// MappingTimeout ends a mapping that has sent nothing for as long; 0 means 2 minutes (RFC 4787 REQ-5).
	MappingTimeout time.Duration
	// FilterByAddress lets only hosts that a mapping has sent to send back to it (address-dependent filtering). By
	// default anybody may (endpoint-independent filtering), as calls and games between peers need (RFC 4787 §5).
	FilterByAddress bool
}

const (
	dialTimeout = 10 * time.Second
	// dialStagger is RFC 8305's Connection Attempt Delay.
	dialStagger = 250 * time.Millisecond
	// maxDials bounds the addresses tried for one name.
	maxDials = 16
	// routesAge is how long the answer of Families is good for.
	routesAge = time.Minute
)

// Sockets is an Egress of ordinary sockets. Safe for concurrent use.
type Sockets struct {
	cfg      Config
	log      *slog.Logger
	policy   *policy
	resolver *resolver
	client   *dnsclient.Client
	answers  *dnscache.Cache
	upstream *upstream // nil: none
	dialer   [2]net.Dialer
	pings    func() bool
	bufs     sync.Pool // of *[maxDatagram]byte

	// dialOne connects to one address. A test puts its own in place.
	dialOne func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // everything that runs
	mappings atomic.Int64
	counters counters
	started  time.Time
	warned   atomic.Int64 // when the upstream was last complained of, since started
	skew     atomic.Int64 // a test's way to make time pass for mappings

	routesMu sync.Mutex
	routes   atomic.Pointer[routes]

	mu     sync.Mutex
	closed bool
	sinks  map[*sink]struct{}
}

var _ flow.Egress = (*Sockets)(nil)

// New checks the config and makes an Egress of it. Close it.
func New(c Config) (*Sockets, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	answers := newAnswers(client)
	if c.Lookup == nil && c.Resolver != "" {
		c.Lookup = lookup{answers}
	} else if c.Lookup == nil {
		// Go's own resolver can be cancelled and holds no thread while it waits; elsewhere it knows the system less well.
		c.Lookup = &net.Resolver{PreferGo: runtime.GOOS == "linux"}
	}
	c.Source4, c.Source6 = c.Source4.Unmap(), c.Source6.Unmap()
	if c.Source4.IsValid() && !c.Source4.Is4() {
		return nil, fmt.Errorf("egress: config: source4: %q is not an IPv4 address", c.Source4)
	}
	if c.Source6.IsValid() && !c.Source6.Is6() {
		return nil, fmt.Errorf("egress: config: source6: %q is not an IPv6 address", c.Source6)
	}
	for _, n := range []struct {
		v     *int
		def   int
		field string
	}{{&c.SessionMappings, 512, "session mappings"}, {&c.MaxMappings, 8192, "max mappings"}} {
		if *n.v < 0 {
			return nil, fmt.Errorf("egress: config: %s: %d is negative", n.field, *n.v)
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	if c.MappingTimeout < 0 {
		return nil, fmt.Errorf("egress: config: mapping timeout: %v is negative", c.MappingTimeout)
	}
	if c.MappingTimeout == 0 {
		c.MappingTimeout = 2 * time.Minute
	}
	p, err := newPolicy(&c)
	if err != nil {
		return nil, err
	}
	up, err := parseUpstream(c.Upstream)
	if err != nil {
		return nil, err
	}
	s := &Sockets{
		cfg:      c,
		log:      c.Log,
		policy:   p,
		resolver: newResolver(c.Lookup),
		client:   client,
		answers:  answers,
		upstream: up,
		pings:    tryPing(c.Source4),
		started:  time.Now(),
		sinks:    make(map[*sink]struct{}),
	}
	s.bufs.New = func() any { return new([maxDatagram]byte) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for i, source := range []netip.Addr{c.Source4, c.Source6} {
		s.dialer[i] = net.Dialer{
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 4},
			ControlContext:  s.control,
		}
		if source.IsValid() {
			s.dialer[i].LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
	}
	s.dialOne = s.connect
	return s, nil
}

// Close ends every mapping and lookup and refuses what comes after. Connections that were dialled live on: they are
// their owners'.
func (s *Sockets) Close() error {
	s.mu.Lock()
	s.closed = true
	sinks := s.sinks
	s.sinks = nil
	s.mu.Unlock()
	s.cancel()
	for k := range sinks {
		k.shut()
	}
	s.resolver.cache.Close()
	s.answers.Close()
	s.wg.Wait()
	s.client.Close()
	return nil
}

// admit says whether ap may be gone to, and whether there is a way.
func (s *Sockets) admit(ap netip.AddrPort) *flow.Error {
	why, allowed := s.policy.refuse(ap)
	return s.admitted(ap.Addr(), why, allowed)
}

func (s *Sockets) admitAddr(a netip.Addr) *flow.Error {
	why, allowed := s.policy.refuseAddr(a)
	return s.admitted(a, why, allowed)
}

func (s *Sockets) admitted(a netip.Addr, why reason, allowed bool) *flow.Error {
	switch {
	case why == badAddress:
		return errBadTarget
	case why != "":
		return &flow.Error{Code: flow.CodeDenied, Detail: string(why)}
	case allowed || s.upstream != nil:
		return nil // what Allow opens may well be on a link without a default route
	case !s.Families().Has(familyOf(a)):
		return errNoFamily
	}
	return nil
}

var (
	errBadTarget = flow.Errorf(flow.CodeBadTarget, "%s", badAddress)
	errNoFamily  = flow.Errorf(flow.CodeNetUnreach, "the gateway has no way out over that IP version")
	errClosed    = flow.Errorf(flow.CodeLocalShutdown, "the gateway is stopping")
)

func familyOf(a netip.Addr) flow.Families {
	if a.Unmap().Is4() {
		return flow.IPv4
	}
	return flow.IPv6
}

// Stats counts what happened, never where.
type Stats struct {
	Dials, DialsFailed, DialsDenied uint64 // Failed includes Denied
	Lookups, LookupsCached          uint64 // names asked for, and those of them that were still known
	Questions, QuestionsCached      uint64 // DNS messages, likewise

	Mappings                        int // open now, of all sessions
	MappingsOpened, MappingsRefused uint64
	PacketsOut, PacketsIn           uint64
	PacketsDenied                   uint64 // by policy, either way
	PacketsDropped                  uint64 // malformed, of a protocol that cannot leave, or refused by the kernel
}

type counters struct {
	dials, dialsFailed, dialsDenied atomic.Uint64
	opened, refused                 atomic.Uint64
	out, in, denied, dropped        atomic.Uint64
}

// Stats returns the counters as they are now.
func (s *Sockets) Stats() Stats {
	c := &s.counters
	questions, known := s.answers.Stats()
	lookups, lookupsKnown := s.resolver.cache.Stats()
	return Stats{
		Questions: questions, QuestionsCached: known,
		Dials: c.dials.Load(), DialsFailed: c.dialsFailed.Load(), DialsDenied: c.dialsDenied.Load(),
		Lookups: lookups, LookupsCached: lookupsKnown,
		Mappings: int(s.mappings.Load()), MappingsOpened: c.opened.Load(), MappingsRefused: c.refused.Load(),
		PacketsOut: c.out.Load(), PacketsIn: c.in.Load(), PacketsDenied: c.denied.Load(), PacketsDropped: c.dropped.Load(),
	}
}
