// Package client carries an application's or a machine's traffic to a Godwit gateway. It is the whole client but for the
// command line, made to be embedded:
//
//	key, err := accesskey.Parse(text)
//	c, err := client.New(client.Config{Key: key, StateDir: dir})
//	go c.Run(ctx)
//	conn, err := c.Dial(ctx, "tcp", "example.org:443")
//
// An application that is its system's VPN hands the client the TUN that the system has made for it, instead of dialling:
//
//	unix.SetNonblock(fd, true)
//	c, err := client.New(client.Config{Key: key, StateDir: dir, Memory: 40 << 20, // iOS ends extensions that take 50 MB
//		TUN:     &client.TUN{File: os.NewFile(fd, "tun"), Prefix4: netip.MustParsePrefix("10.111.0.0/24")}, // it is 10.111.0.1
//		Protect: func(_, _ string, s syscall.RawConn) error { return s.Control(protect) }}) // Android's VpnService.protect
//	err = c.Run(ctx) // it has closed the TUN
//
// and tells it with NetworkChanged when the system has said so. The client touches no routes and no settings.
//
// A Client keeps one session with the gateway over a few links, and replaces links as they are blocked or break; the
// connections made through it go on meanwhile.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/capture/proxy"
	"github.com/godwit-vpn/godwit/internal/capture/tun"
	"github.com/godwit-vpn/godwit/internal/dialer"
	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/names"
	"github.com/godwit-vpn/godwit/internal/network"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/rules"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/udpport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// DefaultLinks is how many links a client keeps: one that works and one that is warm, so that a blocked link costs
	// less than a second.
	DefaultLinks = 2
	// MaxLinks is the most it keeps: a firewall counts connections.
	MaxLinks = 3
	// maxLeaving is how many sessions may be left at once, each for the next: a gateway is not upgraded that often.
	maxLeaving = 3
	// DefaultMemory bounds what a client retains and reassembles, in bytes.
	DefaultMemory = 256 << 20
)

// Config is what a Client needs. Zero values mean what each field says.
type Config struct {
	// Key is the access key. Required.
	Key accesskey.Key
	// StateDir is where the device's key and certificate live, in files for their owner only. Empty keeps them in memory,
	// and the next run is another device.
	StateDir string
	// Links is how many links to keep, 1 to MaxLinks; 0 means DefaultLinks, and one more where the path loses so much that
	// two share the load: then the third stays free for what is small and urgent.
	Links int
	// Transports are the only transports to use; empty means all that the access key has endpoints of.
	Transports []string
	// Browser is whose visits the client's look like, "chrome" or "firefox"; empty is what this device always looks like, which
	// is drawn from its key. A device should keep to one.
	Browser string
	// Fragment cuts the first message of each connection in two, inside of the name it asks for: "tcp", "record" or "both".
	// Some firewalls miss the name then; no browser does it. Empty is "none".
	Fragment string
	// Resolvers are those that transport dns asks, as "192.0.2.53", "tcp://192.0.2.53", "tls://dns.example" or
	// "https://dns.example/dns-query"; empty means NetworkResolvers.
	Resolvers []string
	// Rules names a file of rules that send some traffic directly, or nowhere (docs/rules.md); empty has none. SetRules has others
	// count later.
	Rules string
	// TUN, if not nil, is a device that Run serves; only who gives the client its devices later calls ServeTUN.
	TUN *TUN
	// NamesFirst has programs that come by a TUN told addresses that stand for names, at once, with what they send going to the
	// name: out of one network of IPv4, one of IPv6, or both, that are nobody's, are routed into the TUN, and do not overlap with
	// its Prefix4 and Prefix6. Empty has their questions answered by the gateway.
	NamesFirst []netip.Prefix
	// SplitDNS has questions that come by a TUN about a domain, and all below it, answered by a resolver of its own: each is
	// "corp.example=192.0.2.53", with resolvers written as in Resolvers. It is asked through the tunnel, or past it where
	// "direct:" is in front of the resolver. "corp.example=direct:network" asks NetworkResolvers.
	SplitDNS []string
	// NetworkResolvers are those that this network has named, as they are at the time; nil means the system's.
	NetworkResolvers func() []netip.Addr
	// Congestion names the congestion control to ask the system for; empty prefers BBR, "system" leaves it alone.
	Congestion string
	// Protect, if not nil, is called for every socket before it connects or sends, to keep it out of a tunnel (as net.Dialer's
	// Control). Sockets on which the client listens stay in it. Where the access key names gateways, rather than giving
	// addresses, net.DefaultResolver finds them, and is to keep its own out.
	Protect func(network, address string, c syscall.RawConn) error
	// Logger gets events of links, never destinations; nil discards them.
	Logger *slog.Logger
	// Shape is how much is spent so that what begins inside of links does not show, at both ends: "off", "low" or "high"; empty
	// is low. docs/shaping.md has what each costs.
	Shape string
	// Memory bounds what is retained and reassembled, in bytes; 0 means DefaultMemory.
	Memory int64
	// Events, if not nil, is told what happens to links. It must not block.
	Events func(Event)
}

// Client is one device's session with its gateway. Safe for concurrent use.
type Client struct {
	cfg      Config
	shape    shape.Level
	log      *slog.Logger
	pool     *session.Pool
	dialers  map[string]transport.Dialer
	fragment transport.Fragment
	places   []place // of each way
	udp      *udpport.Mux
	proxy    *proxy.Server
	tun      atomic.Pointer[tun.Capture]
	resolver atomic.Pointer[names.Server] // the TUN's
	rules    atomic.Pointer[rules.Set]    // nil: everything goes through the tunnel
	owners   owner.Table                  // of applications' sockets
	past     past
	asleep   func() time.Duration // for how long the machine has slept, since whenever
	own      sockets              // of links
	looped   atomic.Bool          // one came back by the TUN since a link was last up
	split    map[string]names.Upstream

	// changed is told that something about the session changed; one token, since Run looks at everything each time.
	changed chan struct{}
	// poke makes Run dial without waiting for its back-off.
	poke chan struct{}
	// used is told that an application has opened a stream; one token, since it matters whether, not how many.
	used chan struct{}

	mu        sync.Mutex
	running   bool
	session   *session.Session
	leaving   []*session.Session // earlier ones that carry their last streams, oldest first
	welcomed  bool               // the session has been welcomed once
	ready     chan struct{}      // closed while welcomed, replaced with a new session
	usable    chan struct{}      // closed once the session has a link, be it not answered yet; replaced likewise
	identity  *identity
	links     map[uint64]*tracked // of this session
	refusal   *link.Refusal       // not yet acted on
	refusedBy *session.Session
	replaced  []Replacement
	lost      uint64 // links lost so far
	families  flow.Families
	forwards  bool // the gateway carries packets of every protocol
	addrs     tunnelAddrs
	attempts  int       // failed dials since the last good one
	young     int       // links in a row that were welcomed and soon silent or broken
	youngAt   time.Time // when the last of them was
	compared  time.Time // when links were last compared
	stalls    stalls
	lastErr   error
	nextDial  time.Time
	ways      *dialer.Ways
	wayErr    []error // how the last dial of each ended
	network   network.State
	looked    time.Time // at it
	memory    *dialer.Memory
	kept      time.Time       // when it was last written
	browser   *chrome.Browser // the newest there is
	worn      *chrome.Browser // what dials look like

	load load // only Run uses it
}

// ErrRefused is matched by errors of Run that no retry with this access key mends, and by those of Ready that none will
// mend soon.
var ErrRefused = errors.New("refused by the gateway")

// FieldError says which field of a Config is wrong, and why.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return "field " + e.Field + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

// read is a Config's text, understood.
type read struct {
	fragment  transport.Fragment
	shape     shape.Level
	browser   chrome.Family // empty is the device's own
	resolvers []dnsclient.Resolver
	split     map[string]names.Upstream
}

// Check says with a *FieldError what is wrong with a Config, but for its Key, which New looks at.
func (cfg *Config) Check() error {
	_, err := cfg.read()
	return err
}

func (cfg *Config) read() (r read, err error) {
	if cfg.Links < 0 || cfg.Links > MaxLinks {
		return r, &FieldError{"Links", fmt.Errorf("%d is not from 1 to %d", cfg.Links, MaxLinks)}
	}
	if cfg.Fragment != "" {
		if err := r.fragment.UnmarshalText([]byte(cfg.Fragment)); err != nil {
			return r, &FieldError{"Fragment", err}
		}
	}
	if r.shape, err = shape.ParseLevel(cfg.Shape); err != nil {
		return r, &FieldError{"Shape", err}
	}
	switch r.browser = chrome.Family(cfg.Browser); r.browser {
	case "", chrome.FamilyChrome, chrome.FamilyFirefox:
	default:
		return r, &FieldError{"Browser", fmt.Errorf("%.20q is neither chrome nor firefox", cfg.Browser)}
	}
	for _, s := range cfg.Resolvers {
		resolver, err := dnsclient.Parse(s)
		if err != nil {
			return r, &FieldError{"Resolvers", err}
		}
		r.resolvers = append(r.resolvers, resolver)
	}
	if r.split, err = cfg.parseSplit(); err != nil {
		return r, &FieldError{"SplitDNS", err}
	}
	if err := checkFirst(cfg.NamesFirst); err != nil {
		return r, &FieldError{"NamesFirst", err}
	}
	if t := cfg.TUN; t != nil {
		if err := t.check(cfg.NamesFirst); err != nil {
			return r, &FieldError{"TUN", err}
		}
	}
	for _, name := range cfg.Transports {
		if !slices.Contains(transports.Names(), name) {
			return r, &FieldError{"Transports", fmt.Errorf("there is no %.20q; there are %s", name, strings.Join(transports.Names(), ", "))}
		}
	}
	return r, nil
}

// New makes a Client; Run brings it to life.
func New(cfg Config) (*Client, error) {
	if err := cfg.Key.Validate(); err != nil {
		return nil, &FieldError{"Key", err}
	}
	set, err := cfg.read()
	if err != nil {
		return nil, err
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	id, err := loadIdentity(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, log: cfg.Logger, pool: session.NewPool(cfg.Memory), identity: id, fragment: set.fragment, shape: set.shape, split: set.split,
		asleep:  asleep(),
		dialers: make(map[string]transport.Dialer),
		changed: make(chan struct{}, 1),
		poke:    make(chan struct{}, 1),
		used:    make(chan struct{}, 1),
		ready:   make(chan struct{}),
		usable:  make(chan struct{}),
		links:   make(map[uint64]*tracked),
	}
	if err := c.SetRules(cfg.Rules); err != nil {
		return nil, &FieldError{"Rules", err}
	}
	c.findBrowser(set.browser)
	if err := c.findWays(set); err != nil {
		return nil, err
	}
	c.wearLocked()
	c.udp = udpport.New(udpport.Config{Send: c.sendPacket})
	c.proxy = proxy.New(proxy.Config{Outside: c, Logger: cfg.Logger})
	return c, nil
}

// ErrRunning is returned by Run for a Client that runs already.
var ErrRunning = errors.New("the client is running already")

// Run keeps the session until ctx is done, and then ends it and returns nil; or until the gateway refuses this device
// for good, with an error that matches ErrRefused; or until Config.TUN fails. It owns every goroutine it starts. A Client runs
// once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return ErrRunning
	}
	c.running = true
	c.mu.Unlock()
	asking, stop := context.WithCancel(ctx)
	var asks sync.WaitGroup
	asks.Go(func() { c.followBrowser(asking) })
	var ended error // the TUN's end
	if t := c.cfg.TUN; t != nil {
		asks.Go(func() {
			ended = c.ServeTUN(asking, *t)
			stop()
		})
	}
	err := c.manage(asking)
	stop()
	asks.Wait()
	if err == nil {
		err = ended
	}
	c.keepNetwork()
	var closing sync.WaitGroup
	for _, s := range c.sessions() {
		closing.Go(func() { s.Close(flow.CodeLocalShutdown) })
	}
	closing.Wait()
	c.past.close()
	c.udp.Close()
	return err
}

// ServeProxy answers SOCKS5 and HTTP proxy clients on l, which must be on a loopback address, until ctx is done. It owns
// l and returns when every connection is gone.
func (c *Client) ServeProxy(ctx context.Context, l net.Listener) error { return c.proxy.Serve(ctx, l) }

// Ready waits until data has flowed to the gateway and back in the present session. Its error matches ErrRefused if the
// gateway said meanwhile that the access key's data for this month is used up.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.await(ctx, func() chan struct{} { return c.ready })
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var r *link.Refusal
	if errors.As(c.lastErr, &r) && r.Cause == wire.CauseQuota {
		return &refusedError{r}
	}
	return err
}

// current returns the session as soon as it has a link: what is asked of it then crosses right behind the handshake,
// without waiting for the gateway's answer to that.
func (c *Client) current(ctx context.Context) (*session.Session, error) {
	return c.await(ctx, func() chan struct{} { return c.usable })
}

// await returns the session once the channel that it gives under mu is closed.
func (c *Client) await(ctx context.Context, gate func() chan struct{}) (*session.Session, error) {
	for {
		c.mu.Lock()
		s, open := c.session, gate()
		c.mu.Unlock()
		select {
		case <-open:
			if s != nil && s.Err() == nil && !s.Leaving() {
				return s, nil
			}
			// It has ended, or takes nothing new, and Run has not yet made another.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return nil, c.notReady(ctx)
			}
		case <-ctx.Done():
			return nil, c.notReady(ctx)
		}
	}
}

func (c *Client) notReady(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastErr != nil {
		return flow.Errorf(flow.CodeTimeout, "the gateway cannot be reached: %v", c.lastErr)
	}
	return flow.Errorf(flow.CodeTimeout, "the gateway cannot be reached: %v", ctx.Err())
}

// Dial connects to a TCP address through the gateway; a name is looked up there. It is a net.Dialer's DialContext, with
// network "tcp".
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("network %q: only tcp can be dialled; see ListenPacket for UDP", network)
	}
	t, err := flow.ParseTarget(address)
	if err != nil {
		return nil, err
	}
	st, err := c.Open(ctx, t, false)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// ListenPacket opens a UDP port at the tunnel's address. Its addresses are *net.UDPAddr.
func (c *Client) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	if err := c.Ready(ctx); err != nil { // the tunnel's addresses come with the gateway's answer
		return nil, err
	}
	return c.udp.ListenPacket(ctx)
}

// NetworkChanged tells the client that the machine has another network now, or has woken up: links are tried at once. It
// looks for that itself every few seconds; who knows at once, says so.
func (c *Client) NetworkChanged() {
	c.lookAtNetwork(true)
	c.mu.Lock()
	c.anewLocked()
	c.mu.Unlock()
	c.tryLinks()
}

func (c *Client) tell(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// refusedError is a refusal that this client cannot mend.
type refusedError struct{ *link.Refusal }

func (e *refusedError) Is(target error) bool { return target == ErrRefused }
func (e *refusedError) Unwrap() error        { return e.Refusal }
