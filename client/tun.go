package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/godwit-vpn/godwit/internal/capture/tun"
	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/names"
)

// TUN is a network device whose traffic the client carries. Whoever makes it gives it addresses and routes, and keeps the
// client's own sockets out of it (Config.Protect): the client touches neither. It listens on the device's addresses, for TCP,
// unless it Calls.
type TUN struct {
	// File is the device's descriptor, in non-blocking mode, or else it cannot be closed while it is read. The client closes it.
	// On Apple's systems it is a utun's, which has four bytes of the address family in front of each packet.
	File *os.File
	// Packets is there instead of File where the device is none, as on Windows: one packet to a Read, and to a Write, as they are.
	// Close ends a Read. The client closes it.
	Packets io.ReadWriteCloser
	// Offload says that each packet has Linux's virtio_net_hdr in front, and that its checksum and its segments may be left to
	// the reader (IFF_VNET_HDR; TUNSETOFFLOAD with TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6). Without it packets come as they are.
	Offload bool
	// Prefix4 and Prefix6 are networks with room for two addresses: the first is the device's own, from which programs send,
	// and the second must be nobody's. Either may be missing: that IP version is then not carried.
	Prefix4, Prefix6 netip.Prefix
	// Calls, on Linux, has TCP end at sockets that connect through the device, from its own address to the other one, rather than
	// at a listener, which a firewall of the machine's own may keep everybody from.
	Calls bool
}

func (t *TUN) check(first []netip.Prefix) error {
	switch {
	case t.File == nil && t.Packets == nil:
		return errors.New("it has no File")
	case t.File != nil && t.Packets != nil:
		return errors.New("it has both File and Packets")
	case !t.Prefix4.IsValid() && !t.Prefix6.IsValid():
		return errors.New("it has neither Prefix4 nor Prefix6: give the networks of its addresses")
	case t.Prefix4.IsValid() && !t.Prefix4.Addr().Is4():
		return fmt.Errorf("its Prefix4, %v, is not of IPv4", t.Prefix4)
	case t.Prefix6.IsValid() && (t.Prefix6.Addr().Is4() || t.Prefix6.Addr().Is4In6()):
		return fmt.Errorf("its Prefix6, %v, is not of IPv6", t.Prefix6)
	}
	for _, p := range first {
		if t.Prefix4.Overlaps(p) || t.Prefix6.Overlaps(p) {
			return fmt.Errorf("its own network overlaps with %v, of which addresses stand for names", p)
		}
	}
	return nil
}

// Close closes a device that is not served.
func (t *TUN) Close() (err error) {
	if t.File != nil {
		err = t.File.Close()
	}
	if t.Packets != nil {
		err = errors.Join(err, t.Packets.Close())
	}
	return err
}

func (t *TUN) device() tun.Device {
	if t.Packets != nil {
		return tun.NewPackets(t.Packets)
	}
	return tun.NewDevice(t.File, t.Offload)
}

// mostFirstBits leave a network room for names: a few at once, and a while until an address stands for another one.
const (
	mostFirstBits4 = 24
	mostFirstBits6 = 120
)

func checkFirst(prefixes []netip.Prefix) error {
	var have [2]bool
	for _, p := range prefixes {
		i, most := 0, mostFirstBits4
		if p.Addr().Is6() {
			i, most = 1, mostFirstBits6
		}
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			return errors.New("one of the networks is none")
		case have[i]:
			return fmt.Errorf("%v is the second of its IP version: give one of each", p)
		case p.Bits() > most:
			return fmt.Errorf("%v is too small: give one of at most /%d", p, most)
		}
		have[i] = true
	}
	return nil
}

// parseSplit reads domains with a resolver of their own.
func (cfg *Config) parseSplit() (map[string]names.Upstream, error) {
	past := (&net.Dialer{KeepAlive: -1, Control: cfg.Protect}).DialContext
	split := make(map[string]names.Upstream, len(cfg.SplitDNS))
	for _, s := range cfg.SplitDNS {
		domain, resolver, ok := strings.Cut(s, "=")
		t, err := flow.NewTarget(strings.Trim(domain, "."), 53)
		if _, isAddr := t.Addr(); !ok || err != nil || isAddr {
			return nil, fmt.Errorf("%.80q is not a domain, = and its resolver, as corp.example=192.0.2.53", s)
		}
		if _, twice := split[t.Host]; twice {
			return nil, fmt.Errorf("domain %.80q is there twice", t.Host)
		}
		var up names.Upstream
		var direct bool
		if resolver, direct = strings.CutPrefix(resolver, "direct:"); direct {
			up.Dial = past
		}
		switch {
		case direct && resolver == "network":
			up.List = cfg.networkResolvers
		case resolver == "network":
			return nil, fmt.Errorf("%.80q: this network's resolvers are asked past the tunnel: write %s=direct:network", s, t.Host)
		default:
			if up.Resolver, err = dnsclient.Parse(resolver); err != nil {
				return nil, err
			}
		}
		split[t.Host] = up
	}
	return split, nil
}

// networkResolvers are those of the network that the machine is in now.
func (cfg *Config) networkResolvers() (all []dnsclient.Resolver, err error) {
	if cfg.NetworkResolvers == nil {
		return dnsclient.System()
	}
	for _, a := range cfg.NetworkResolvers() {
		r, err := dnsclient.Parse(a.String())
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if all == nil {
		err = errors.New("this network has named no resolver")
	}
	return all, err
}

// TUNStats are counts of what has come by a TUN since it was given to the client.
type TUNStats = tun.Stats

// ErrTUN is returned by ServeTUN while there is one already, be it Config.TUN.
var ErrTUN = errors.New("the client serves a TUN already")

// ServeTUN carries what comes by a TUN until ctx is done, and then returns nil; or until the device fails. TCP crosses as
// streams, all else as packets as far as the gateway carries it, and DNS questions, whoever they are for, are answered by the gateway's resolvers.
func (c *Client) ServeTUN(ctx context.Context, t TUN) error {
	if err := t.check(c.cfg.NamesFirst); err != nil {
		t.Close()
		return fmt.Errorf("the TUN: %w", err)
	}
	resolver := names.New(names.Config{Outside: c, Linked: c.online, Split: c.split, NamesFirst: c.cfg.NamesFirst})
	defer resolver.Close()
	var dial func(*net.Dialer, context.Context, string, string) (net.Conn, error)
	if t.Calls {
		dial = (*net.Dialer).DialContext
	}
	capture, err := tun.New(tun.Config{
		Dial: dial, Device: t.device(), Prefix4: t.Prefix4, Prefix6: t.Prefix6,
		Outside: c, Send: c.sendInside, Decide: c.decidePacket, Direct: c.sendPast, Inner: c.inner, Forwards: c.gatewayForwards,
		Online: c.online, Ours: c.comesBack,
		Answer:   resolver.Answer,
		ServeDNS: func(ctx context.Context, conn net.Conn) { resolver.Serve(ctx, conn) },
		NameOf:   resolver.NameOf, Synthetic: resolver.Synthetic, Resolve: resolver.Resolve,
	})
	if err != nil {
		t.Close()
		return err
	}
	if !c.tun.CompareAndSwap(nil, capture) {
		capture.Close()
		return ErrTUN
	}
	c.resolver.Store(resolver)
	defer func() {
		c.tun.Store(nil)
		c.resolver.Store(nil)
	}()
	return capture.Run(ctx)
}

// deliver takes a packet from the session to whoever it is for: one of the proxy's ports, or else the TUN.
func (c *Client) deliver(p []byte) {
	if c.udp.Deliver(p) {
		return
	}
	if t := c.tun.Load(); t != nil {
		t.Deliver(p)
	}
}

// inner are the addresses that the session has at the gateway.
func (c *Client) inner() (v4, v6 netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs.v4, c.addrs.v6
}

// gatewayForwards reports whether the session's gateway carries packets of every protocol.
func (c *Client) gatewayForwards() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forwards
}

// online reports whether there is a link that answers.
func (c *Client) online() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		if l.answered && !l.suspected {
			return true
		}
	}
	return false
}

// tunStats is nil where there is no TUN.
func (c *Client) tunStats() *TUNStats {
	t := c.tun.Load()
	if t == nil {
		return nil
	}
	s := t.Stats()
	return &s
}
