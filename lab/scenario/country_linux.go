package scenario

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/topology"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// hosts is the country without its firewall. The gateway has more addresses if the profile gives it some.
const hosts = `
inside  client   192.0.2.10   2001:db8:1::10
inside  laptop   192.0.2.20   192.0.2.21
inside  office   192.0.2.30
inside  dns      192.0.2.53
inside  home     192.0.2.80   2001:db8:1::80
inside  prober   192.0.2.200
outside gateway  %s
outside banned   198.51.100.200 2001:db8:2::200
outside plain    198.51.100.60
outside allowed  203.0.113.80 2001:db8:3::80
outside resolver 203.0.113.53
`

// Where things are.
var (
	clientAddr   = netip.MustParseAddr("192.0.2.10")
	clientAddrs  = []netip.Addr{clientAddr, netip.MustParseAddr("2001:db8:1::10")}
	dnsAddr      = netip.MustParseAddr("192.0.2.53")
	homeAddr     = netip.MustParseAddr("192.0.2.80")
	proberAddr   = netip.MustParseAddr("192.0.2.200")
	bannedAddr   = netip.MustParseAddr("198.51.100.200")
	allowedAddr  = netip.MustParseAddr("203.0.113.80")
	resolverAddr = netip.MustParseAddr("203.0.113.53")
	// targets is what tunnels are for: the banned site's network.
	targets = netip.MustParsePrefix("198.51.100.192/26")
	// gatewayAddrs are given out from the first on. Two hosters, so that a block of one leaves the other.
	gatewayAddrs = []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("203.0.113.10"),
		netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("203.0.113.11")}
)

// The sites' names.
const (
	banned  = "banned.example"
	allowed = "allowed.example"
	home    = "home.example"
)

// names is what an honest resolver says.
var names = map[string][]netip.Addr{
	banned:  {bannedAddr, netip.MustParseAddr("2001:db8:2::200")},
	allowed: {allowedAddr, netip.MustParseAddr("2001:db8:3::80")},
	home:    {homeAddr, netip.MustParseAddr("2001:db8:1::80")},
}

// path is the way from the country's edge to the gateway and back, 60 ms and 100 Mbit/s, with half a bandwidth-delay product
// of queue.
var path = linkmodel.Direction{Delay: 30 * time.Millisecond, Rate: 100e6, QueueTime: 30 * time.Millisecond}

// country is a built one, with everybody at work.
type country struct {
	profile  *profile.Profile
	firewall *profile.Firewall
	net      *topology.Net
	gateways []netip.Addr
	resolver *traffic.Resolver // outside
	domestic *traffic.Resolver
	suspects chan firewall.Suspect
	recorder recorder
	inquiry  *inquiry          // nil where nobody probes
	packets  *topology.Capture // the last ones
	dir      string            // in memory, empty

	ctx    context.Context // of all that runs in it
	cancel context.CancelFunc
	done   sync.WaitGroup
	asking sync.WaitGroup // resolvers, each other
	mu     sync.Mutex
	closed bool
	errs   []error
}

// newCountry builds one. The profile must be freshly loaded: its rules keep what they see.
func newCountry(ctx context.Context, p *profile.Profile, seed uint64, dir string) (*country, error) {
	c := &country{profile: p, dir: dir, suspects: make(chan firewall.Suspect, 64), // more at once are the same suspect again
		resolver: &traffic.Resolver{Names: names}, domestic: &traffic.Resolver{Names: names}}
	c.gateways = gatewaysOf(p)
	p.Add(firewall.Named{Name: "recorder", Rule: &c.recorder})
	var err error
	c.firewall, err = p.Build(seed, func(s firewall.Suspect) {
		select {
		case c.suspects <- s:
		default:
		}
	}, netip.PrefixFrom(proberAddr, proberAddr.BitLen()))
	if err != nil {
		return nil, err
	}
	d, err := describe(p, c.gateways)
	if err != nil {
		return nil, err
	}
	d.Seed = seed
	boxes := make(map[string]linkmodel.Box)
	for i, b := range p.Boxes {
		boxes[b.Name] = c.firewall.Boxes[i]
	}
	if c.net, err = d.Build(ctx, boxes); err != nil {
		return nil, err
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.ctx = ctx
	c.run("the network", func() error { return c.net.Run(ctx) })
	if c.packets, err = c.net.CaptureLast(p.Boxes[0].Name, topology.Inside, kept); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if err := errors.Join(c.open(ctx), c.inquire(ctx, seed)); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// describe is a country with a profile's firewall.
func describe(p *profile.Profile, gateways []netip.Addr) (*topology.Description, error) {
	d, err := topology.Parse("country", fmt.Sprintf(hosts, strings.Trim(fmt.Sprint(gateways), "[]")))
	if err != nil {
		return nil, err
	}
	for i, r := range relaysOf(p) {
		side := &d.Outside
		if domestic.Contains(r.addr) {
			side = &d.Inside
		}
		*side = append(*side, topology.Host{Name: relayHost(i), Addrs: []netip.Addr{r.addr}})
	}
	for i, b := range p.Boxes {
		f := topology.Firewall{Name: b.Name}
		if i == len(p.Boxes)-1 { // all boxes are near the client: what they forge is there first
			f.Forward, f.Backward = path, path
			if p.Path != nil {
				f.Forward, f.Backward = *p.Path, *p.Path
			}
		}
		d.Firewalls = append(d.Firewalls, f)
	}
	return d, nil
}

// domestic is the country's own network.
var domestic = netip.MustParsePrefix("192.0.2.0/24")

type relayPlace struct {
	addr netip.Addr
	name string
}

// relaysOf lists where a profile has relays.
func relaysOf(p *profile.Profile) (all []relayPlace) {
	for _, r := range p.Gateway.Relays {
		addr, name, _ := strings.Cut(r, "/")
		all = append(all, relayPlace{netip.MustParseAddr(addr), name}) // it was checked
	}
	return all
}

func relayHost(i int) string { return fmt.Sprintf("relay%d", i+1) }

func gatewaysOf(p *profile.Profile) []netip.Addr {
	return gatewayAddrs[:min(max(1, p.Gateway.Addresses), len(gatewayAddrs))]
}

// run does something until the country is closed; an error before that is kept for close.
func (c *country) run(what string, f func() error) {
	c.done.Go(func() {
		if err := f(); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.errs = append(c.errs, fmt.Errorf("%s: %w", what, err))
		}
	})
}

func (c *country) host(name string) *netns.Host { return c.net.Hosts[name] }

// open opens sites and resolvers, and says to everybody whom to ask.
func (c *country) open(ctx context.Context) error {
	for host, name := range map[string]string{"banned": banned, "allowed": allowed, "home": home} {
		// In both families, as resolvers say: a browser's QUIC to where nobody listens does not try the other.
		if err := c.site(ctx, c.host(host), name, netip.IPv6Unspecified()); err != nil {
			return fmt.Errorf("site %s: %w", name, err)
		}
	}
	// The gateway's zone is asked for as any other: inside one asks the resolver, that one abroad, and that the gateway.
	for _, r := range []struct {
		r  *traffic.Resolver
		on string
		at netip.Addr
	}{{c.domestic, "dns", resolverAddr}, {c.resolver, "resolver", c.gateways[0]}} {
		r.r.Zone, r.r.Ask = peer.Zone, func(q *dns.Msg) (*dns.Msg, error) {
			return c.ask(c.host(r.on), netip.AddrPortFrom(r.at, 53), q)
		}
	}
	for host, r := range map[string]struct {
		r    *traffic.Resolver
		addr netip.Addr
	}{"dns": {c.domestic, dnsAddr}, "resolver": {c.resolver, resolverAddr}} {
		udp, err := c.host(host).ListenUDP(netip.AddrPortFrom(r.addr, 53))
		if err != nil {
			return err
		}
		tcp, err := c.host(host).Listen(netip.AddrPortFrom(r.addr, 53))
		if err != nil {
			return errors.Join(err, udp.Close())
		}
		c.run("resolver "+host, func() error { return r.r.Serve(ctx, udp, tcp) })
	}
	if c.profile.Client.NoTimestamps {
		if err := c.host("client").Sysctl("net.ipv4.tcp_timestamps", "0"); err != nil {
			return fmt.Errorf("field client.no-timestamps: %w", err)
		}
	}
	for _, inside := range []string{"client", "laptop", "office"} {
		if err := errors.Join(c.host(inside).SetNames(), c.host(inside).SetResolvers(dnsAddr)); err != nil {
			return err
		}
	}
	// The gateway's side knows the sites: which of the two it is, no firewall decides.
	return errors.Join(c.host("gateway").SetNames(netns.Name{Name: banned, Addr: bannedAddr}, netns.Name{Name: allowed, Addr: allowedAddr}),
		c.host("gateway").SetResolvers(resolverAddr))
}

// site serves a website on a host, on ports 80 and 443, TCP and UDP.
func (c *country) site(ctx context.Context, h *netns.Host, name string, addr netip.Addr) error {
	cert, err := siteCertificate(name)
	if err != nil {
		return err
	}
	pages, conf := traffic.Website(name), &tls.Config{Certificates: []tls.Certificate{cert}}
	return c.serve(ctx, h, pages, pages, conf, netip.AddrPortFrom(addr, 443), 80)
}

// serve serves pages on a host by TLS and QUIC at an address, and bare without TLS at another port.
func (c *country) serve(ctx context.Context, h *netns.Host, pages, bare http.Handler, conf *tls.Config, at netip.AddrPort,
	barePort uint16) error {
	plain, err := h.Listen(netip.AddrPortFrom(at.Addr(), barePort))
	if err != nil {
		return err
	}
	secure, err := h.Listen(at)
	if err != nil {
		return errors.Join(err, plain.Close())
	}
	quic, err := h.ListenUDP(at)
	if err != nil {
		return errors.Join(err, plain.Close(), secure.Close())
	}
	c.run("site "+at.String(), func() error {
		defer quic.Close()
		return traffic.Serve(ctx, pages, bare, conf, plain, secure, quic)
	})
	return nil
}

// close tears all of it down and tells what went wrong meanwhile.
func (c *country) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
	c.asking.Wait()
	err := c.net.Close()
	c.done.Wait()
	return errors.Join(append(c.errs, err)...)
}

// askTime is how long a resolver waits for another one.
const askTime = 4 * time.Second

// ask asks a name server from a host, once.
func (c *country) ask(from *netns.Host, at netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, net.ErrClosed
	}
	c.asking.Add(1)
	c.mu.Unlock()
	defer c.asking.Done()
	ctx, cancel := context.WithTimeout(c.ctx, askTime)
	defer cancel()
	conn, err := from.DialContext(ctx, "udp", at.String())
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	co := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	defer co.Close()
	if err := errors.Join(co.SetDeadline(time.Now().Add(askTime)), co.WriteMsg(q)); err != nil {
		return nil, err
	}
	return co.ReadMsg()
}

// lookup asks a resolver from a host, as any program there would.
func (c *country) lookup(ctx context.Context, from *netns.Host, resolver netip.Addr, name string) (netip.Addr, error) {
	conn, err := from.DialContext(ctx, "udp", netip.AddrPortFrom(resolver, 53).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.TypeA)
	for range 3 {
		if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return netip.Addr{}, err
		}
		co := &dns.Conn{Conn: conn}
		if err := co.WriteMsg(m); err != nil {
			return netip.Addr{}, err
		}
		reply, err := co.ReadMsg()
		var netErr net.Error
		if errors.As(err, &netErr) && netErr.Timeout() {
			continue
		}
		if err != nil {
			return netip.Addr{}, err
		}
		for _, rr := range reply.Answer {
			if a, ok := rr.(*dns.A); ok {
				addr, _ := netip.AddrFromSlice(a.A.To4())
				return addr, nil
			}
		}
		return netip.Addr{}, fmt.Errorf("%s: %s", name, dns.RcodeToString[reply.Rcode])
	}
	return netip.Addr{}, fmt.Errorf("%s: %w", name, os.ErrDeadlineExceeded)
}

// peerSite is where a peer is to run.
func (c *country) peerSite() *peer.Site {
	s := &peer.Site{Client: c.host("client"), Gateway: c.host("gateway"), GatewayAddr: c.gateways[0], More: c.gateways[1:], Targets: targets,
		Cover: netip.AddrPortFrom(allowedAddr, 443), CoverName: allowed, NAT: true, Dir: c.dir}
	for i, r := range relaysOf(c.profile) {
		s.Relays = append(s.Relays, peer.Relay{Host: c.host(relayHost(i)), Addr: r.addr, Name: r.name})
	}
	return s
}

// firedOn counts the rules that fired on connections of one side's address and the other's, and tells what the first found.
func (c *country) firedOn(client netip.Addr, servers []netip.Addr) (count map[string]int, first string) {
	count = make(map[string]int)
	for _, e := range c.firewall.Events() {
		ends := []netip.Addr{e.Client.Addr(), e.Server.Addr()}
		ours := false
		for _, s := range servers {
			ours = ours || ends[0] == s || ends[1] == s
		}
		if client.IsValid() && ends[0] != client && ends[1] != client {
			ours = false
		}
		if !ours || e.Cleared {
			continue
		}
		if first == "" {
			first = e.Rule + ": " + e.Detail
		}
		count[e.Rule]++
	}
	return count, first
}
