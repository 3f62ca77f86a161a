package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// The routers' addresses, from the ranges for benchmarks (RFC 2544, RFC 5180).
var (
	ispAddrs      = []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("2001:2::1")}
	exchangeAddrs = []netip.Addr{netip.MustParseAddr("198.18.1.1"), netip.MustParseAddr("2001:2:0:1::1")}
)

// Interfaces. A router's to its n-th host is hN.
const (
	hostDev   = "eth0"
	trunkDev  = "trunk" // of a router, towards the other
	insideDev = "in"    // of a firewall
	outDev    = "out"
)

// Net is a built world. Nothing passes a firewall until Run.
type Net struct {
	// Realtime, set before Run, is linkmodel.Forwarder's.
	Realtime bool

	// Hosts by name, with isp and exchange among them. Not to be changed.
	Hosts map[string]*netns.Host

	description Description
	ipv6        bool
	machines    []*netns.Host // all of them, firewalls too
	firewalls   []*firewall

	closed context.CancelFunc // ends Run
	open   context.Context
	mu     sync.Mutex // held by Run, and by Close when Run is over
	ran    bool
}

type firewall struct {
	name  string
	host  *netns.Host
	link  *linkmodel.Forwarder
	wires wires
}

// Build makes the world, in a netns.Sandbox. Boxes are by the firewall's name; one that has none lets all pass. The
// caller must Close the result.
func (d *Description) Build(ctx context.Context, boxes map[string]linkmodel.Box) (*Net, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	n := &Net{Hosts: make(map[string]*netns.Host), description: *d}
	n.open, n.closed = context.WithCancel(context.Background())
	for _, hosts := range [][]Host{d.Inside, d.Outside} {
		for _, h := range hosts {
			for _, a := range h.Addrs {
				n.ipv6 = n.ipv6 || a.Is6()
			}
		}
	}
	err := n.build(ctx, boxes)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Net) build(ctx context.Context, boxes map[string]linkmodel.Box) error {
	isp, err := n.router(ISP, ispAddrs)
	if err != nil {
		return err
	}
	exchange, err := n.router(Exchange, exchangeAddrs)
	if err != nil {
		return err
	}
	if err := n.trunk(isp, exchange); err != nil {
		return err
	}
	for _, side := range []struct {
		hosts     []Host
		near, far *netns.Host
		nearAddrs []netip.Addr
	}{
		{n.description.Inside, isp, exchange, ispAddrs},
		{n.description.Outside, exchange, isp, exchangeAddrs},
	} {
		for i, h := range side.hosts {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := n.attach(h, side.near, fmt.Sprintf("h%d", i), side.nearAddrs); err != nil {
				return err
			}
			for _, a := range h.Addrs {
				r := netns.Route{To: netip.PrefixFrom(a, a.BitLen()), Dev: trunkDev, Via: first(a, side.nearAddrs)}
				if err := side.far.AddRoute(r); err != nil {
					return err
				}
			}
		}
	}
	for name, box := range boxes {
		f, err := n.firewall(name)
		if err != nil {
			return fmt.Errorf("box: %w", err)
		}
		f.link.Box = box
	}
	return nil
}

// host makes a namespace that speaks the families of the world.
func (n *Net) host(name string, ipv6 bool) (*netns.Host, error) {
	h, err := netns.NewHost(name)
	if err != nil {
		return nil, err
	}
	n.machines = append(n.machines, h)
	if ipv6 {
		if err := h.EnableIPv6(); err != nil {
			return nil, err
		}
	}
	// What is sent from a wrong place is a box's to judge, not the kernel's.
	return h, errors.Join(h.Sysctl("net.ipv4.conf.all.rp_filter", "0"), h.Sysctl("net.ipv4.conf.default.rp_filter", "0"))
}

func (n *Net) router(name string, addrs []netip.Addr) (*netns.Host, error) {
	h, err := n.host(name, n.ipv6)
	if err != nil {
		return nil, err
	}
	n.Hosts[name] = h
	for _, a := range n.spoken(addrs) {
		if err := h.AddAddr("lo", netip.PrefixFrom(a, a.BitLen()), ""); err != nil {
			return nil, err
		}
	}
	return h, h.Forward()
}

// spoken is those of a router's addresses whose family the world speaks.
func (n *Net) spoken(addrs []netip.Addr) []netip.Addr {
	if n.ipv6 {
		return addrs
	}
	return addrs[:1]
}

// trunk makes the firewalls and the cables between them, from one router to the other. Firewalls change no frame and
// have no address, so the routers are each other's neighbours.
func (n *Net) trunk(isp, exchange *netns.Host) error {
	last, lastDev := isp, trunkDev
	for i, f := range n.description.Firewalls {
		h, err := n.host(f.Name, false)
		if err != nil {
			return err
		}
		if err := cable(last, lastDev, h, insideDev); err != nil {
			return err
		}
		n.firewalls = append(n.firewalls, &firewall{name: f.Name, host: h})
		last, lastDev = n.firewalls[i].host, outDev
	}
	if err := cable(last, lastDev, exchange, trunkDev); err != nil {
		return err
	}
	for i, f := range n.firewalls {
		d := n.description.Firewalls[i]
		spec := linkmodel.Spec{Forward: d.Forward, Backward: d.Backward, Seed: n.description.Seed + uint64(i)}
		err := f.host.Do(func() (err error) {
			f.link, err = linkmodel.Open(insideDev, outDev, spec)
			return err
		})
		if err != nil {
			return fmt.Errorf("firewall %s: %w", f.name, err)
		}
		f.link.Tap = f.wires.tap
	}
	if err := n.neighbours(isp, trunkDev, exchange, trunkDev, exchangeAddrs, ispAddrs); err != nil {
		return err
	}
	for _, a := range n.spoken(exchangeAddrs) {
		if err := isp.AddDefaultRoute(trunkDev, a); err != nil {
			return err
		}
	}
	return nil
}

// cable connects two machines without offloads.
func cable(a *netns.Host, devA string, b *netns.Host, devB string) error {
	if err := netns.Connect(a, devA, b, devB); err != nil {
		return err
	}
	return errors.Join(a.OffloadsOff(devA), b.OffloadsOff(devB))
}

// neighbours makes a know b's addresses behind its interface, and the other way round, so that nobody needs to ask.
func (n *Net) neighbours(a *netns.Host, devA string, b *netns.Host, devB string, addrsB, addrsA []netip.Addr) error {
	for _, side := range []struct {
		h, other      *netns.Host
		dev, otherDev string
		addrs         []netip.Addr
	}{{a, b, devA, devB, addrsB}, {b, a, devB, devA, addrsA}} {
		mac, err := side.other.HardwareAddr(side.otherDev)
		if err != nil {
			return err
		}
		for _, addr := range side.addrs {
			if addr.Is6() && !n.ipv6 {
				continue
			}
			if err := errors.Join(
				side.h.AddRoute(netns.Route{To: netip.PrefixFrom(addr, addr.BitLen()), Dev: side.dev}),
				side.h.AddNeighbour(side.dev, addr, mac),
			); err != nil {
				return err
			}
		}
	}
	return nil
}

// attach makes a host and its cable to a router.
func (n *Net) attach(h Host, router *netns.Host, dev string, routerAddrs []netip.Addr) error {
	var via []netip.Addr // the router, in the families the host speaks
	ipv6 := false
	for _, r := range routerAddrs {
		if like := first(r, h.Addrs); like.IsValid() {
			via = append(via, r)
			ipv6 = ipv6 || r.Is6()
		}
	}
	host, err := n.host(h.Name, ipv6)
	if err != nil {
		return err
	}
	n.Hosts[h.Name] = host
	if err := netns.Connect(host, hostDev, router, dev); err != nil {
		return err
	}
	for _, a := range h.Addrs {
		if err := host.AddAddr(hostDev, netip.PrefixFrom(a, a.BitLen()), ""); err != nil {
			return err
		}
	}
	if err := n.neighbours(host, hostDev, router, dev, via, h.Addrs); err != nil {
		return err
	}
	for _, v := range via {
		everywhere, err := v.Prefix(0)
		if err != nil {
			return err
		}
		r := netns.Route{To: everywhere, Dev: hostDev, Via: v, Source: first(v, h.Addrs)}
		if err := host.AddRoute(r); err != nil {
			return err
		}
	}
	return nil
}

// first is the first of addrs that is of a's family.
func first(a netip.Addr, addrs []netip.Addr) netip.Addr {
	for _, b := range addrs {
		if a.Is4() == b.Is4() {
			return b
		}
	}
	return netip.Addr{}
}

// Run lets frames pass the firewalls until ctx ends or Close, and returns nil then. It can be called once. A program that
// is busy while firewalls run should have raised runtime.GOMAXPROCS by two for each: else their threads wait for their
// turn in Go's scheduler, which is slower than the kernel's.
func (n *Net) Run(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ran {
		return errors.New("topology: Run called twice, or after Close")
	}
	n.ran = true
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.open, cancel)()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // there may be no firewall
		<-ctx.Done()
		return nil
	})
	for _, f := range n.firewalls {
		f.link.Realtime = n.Realtime
		g.Go(func() error {
			if err := f.link.Run(ctx); err != nil {
				return fmt.Errorf("firewall %s: %w", f.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Close ends Run, and every process on the hosts, and frees them. It may be called again.
func (n *Net) Close() error {
	n.closed()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ran = true
	var errs []error
	for _, f := range n.firewalls {
		if f.link != nil {
			errs = append(errs, f.link.Close())
		}
	}
	for _, h := range n.machines {
		errs = append(errs, h.Close())
	}
	n.machines = nil
	return errors.Join(errs...)
}

// Set changes what a firewall's link does to frames that come from now on. The Seed is not used.
func (n *Net) Set(firewall string, spec linkmodel.Spec) error {
	f, err := n.firewall(firewall)
	if err != nil {
		return err
	}
	if err := f.link.Set(spec); err != nil {
		return fmt.Errorf("firewall %s: %w", firewall, err)
	}
	return nil
}

// Stats is what happened on a firewall's link, at any time.
func (n *Net) Stats(firewall string) (forward, backward linkmodel.Stats, err error) {
	f, err := n.firewall(firewall)
	if err != nil {
		return forward, backward, err
	}
	forward, backward = f.link.Stats()
	return forward, backward, nil
}

func (n *Net) firewall(name string) (*firewall, error) {
	for _, f := range n.firewalls {
		if f.name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("firewall %q: not there: %s", name, n.firewallNames())
}

func (n *Net) firewallNames() string {
	if len(n.firewalls) == 0 {
		return "there are none"
	}
	var names []string
	for _, f := range n.firewalls {
		names = append(names, f.name)
	}
	return "there are " + strings.Join(names, ", ")
}
