package topology

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// The addresses of the drawing.
var (
	ClientAddr  = netip.MustParseAddr("10.77.1.2")
	GatewayAddr = netip.MustParseAddr("10.77.2.2") // as the client sees it
	TargetAddr  = netip.MustParseAddr("10.77.3.2")
	TargetNet   = netip.MustParsePrefix("10.77.3.0/24")
	RelayAddr   = netip.MustParseAddr("10.77.4.2")

	transitToClient  = netip.MustParseAddr("10.77.1.1")
	transitToGateway = netip.MustParseAddr("10.77.2.1")
	gatewayToTarget  = netip.MustParseAddr("10.77.3.1")
	gatewayToRelay   = netip.MustParseAddr("10.77.4.1")
	relayNet         = netip.MustParsePrefix("10.77.4.0/24")

	everywhere = netip.MustParsePrefix("0.0.0.0/0")
)

// The interfaces of the drawing.
const (
	TransitToClient  = "cl"
	TransitToGateway = "gw"
)

// Config says how a Net is wired.
type Config struct {
	// CC is the TCP congestion control of all hosts; empty leaves the kernel's.
	CC string
	// Offloads leaves TSO, GSO, GRO and checksum offload on between client, transit and gateway, as a virtual cable
	// has them. They are always off when Linked, and always on between gateway and target.
	Offloads bool
	// Linked leaves carrying frames through transit to a linkmodel.Forwarder between TransitToClient and
	// TransitToGateway; nothing passes until it runs. Otherwise transit routes.
	Linked bool
	// MaxBuffer is the most a TCP socket may buffer in either direction, in bytes; zero leaves the kernel's.
	MaxBuffer int
	// Relay adds a fifth host on the gateway's side of the path, behind the gateway's, which routes for it.
	Relay bool
}

// Net is the hosts of the package's drawing.
type Net struct {
	Client, Transit, Gateway, Target *netns.Host
	Relay                            *netns.Host // nil unless asked for
	// CCBy says how the congestion control was set: "default", "sysctl" or "route".
	CCBy string
	cfg  Config
	// routeCC, if not empty, must be on every route.
	routeCC string
}

// New makes the hosts. The client reaches only the gateway, unless Direct is called.
func New(cfg Config) (*Net, error) {
	n := &Net{cfg: cfg, CCBy: "default"}
	if err := n.make(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Net) make() (err error) {
	for _, h := range []struct {
		to   **netns.Host
		name string
	}{{&n.Client, "client"}, {&n.Transit, "transit"}, {&n.Gateway, "gateway"}, {&n.Target, "target"}, {&n.Relay, "relay"}} {
		if h.to == &n.Relay && !n.cfg.Relay {
			continue
		}
		if *h.to, err = netns.NewHost(h.name); err != nil {
			return err
		}
	}
	if err = n.setCC(); err != nil {
		return err
	}
	if n.cfg.MaxBuffer > 0 {
		for _, h := range n.Hosts() {
			if err = errors.Join(
				h.Sysctl("net.ipv4.tcp_rmem", fmt.Sprintf("4096 131072 %d", n.cfg.MaxBuffer)),
				h.Sysctl("net.ipv4.tcp_wmem", fmt.Sprintf("4096 16384 %d", n.cfg.MaxBuffer)),
			); err != nil {
				return err
			}
		}
	}
	return n.wire()
}

// Hosts lists all there are.
func (n *Net) Hosts() []*netns.Host {
	hosts := []*netns.Host{n.Client, n.Transit, n.Gateway, n.Target}
	if n.cfg.Relay {
		hosts = append(hosts, n.Relay)
	}
	return hosts
}

func (n *Net) wire() error {
	type cable struct {
		a            *netns.Host
		devA, ipA    string
		b            *netns.Host
		devB, ipB    string
		mayLoseOffls bool
	}
	cables := []cable{
		{n.Client, "eth0", "10.77.1.2/24", n.Transit, TransitToClient, "10.77.1.1/24", true},
		{n.Transit, TransitToGateway, "10.77.2.1/24", n.Gateway, "eth0", "10.77.2.2/24", true},
		{n.Gateway, "eth1", "10.77.3.1/24", n.Target, "eth0", "10.77.3.2/24", false},
	}
	if n.cfg.Relay {
		cables = append(cables, cable{n.Gateway, "eth2", "10.77.4.1/24", n.Relay, "eth0", "10.77.4.2/24", false})
	}
	for _, c := range cables {
		if err := netns.Connect(c.a, c.devA, c.b, c.devB); err != nil {
			return err
		}
		for _, e := range []struct {
			h       *netns.Host
			dev, ip string
		}{{c.a, c.devA, c.ipA}, {c.b, c.devB, c.ipB}} {
			if n.cfg.Linked && e.h == n.Transit {
				continue // no address: transit's own stack is to see nothing
			}
			if err := e.h.AddAddr(e.dev, netip.MustParsePrefix(e.ip), n.routeCC); err != nil {
				return err
			}
		}
		if c.mayLoseOffls && (n.cfg.Linked || !n.cfg.Offloads) {
			if err := errors.Join(c.a.OffloadsOff(c.devA), c.b.OffloadsOff(c.devB)); err != nil {
				return err
			}
		}
	}
	clientNet, gatewayNet := netip.PrefixFrom(ClientAddr, 24).Masked(), netip.PrefixFrom(GatewayAddr, 24).Masked()
	if err := errors.Join(
		n.AddRoute(n.Client, netns.Route{To: gatewayNet, Dev: "eth0", Via: transitToClient}),
		n.AddRoute(n.Gateway, netns.Route{To: clientNet, Dev: "eth0", Via: transitToGateway}),
		n.AddRoute(n.Target, netns.Route{To: everywhere, Dev: "eth0", Via: gatewayToTarget}),
		n.Gateway.Sysctl("net.ipv4.ip_forward", "1"),
	); err != nil {
		return err
	}
	if n.cfg.Relay {
		if err := errors.Join(
			n.AddRoute(n.Client, netns.Route{To: relayNet, Dev: "eth0", Via: transitToClient}),
			n.AddRoute(n.Relay, netns.Route{To: everywhere, Dev: "eth0", Via: gatewayToRelay}),
		); err != nil {
			return err
		}
		if !n.cfg.Linked {
			if err := n.AddRoute(n.Transit, netns.Route{To: relayNet, Dev: TransitToGateway, Via: GatewayAddr}); err != nil {
				return err
			}
		}
	}
	if !n.cfg.Linked {
		return errors.Join(
			n.AddRoute(n.Transit, netns.Route{To: TargetNet, Dev: TransitToGateway, Via: GatewayAddr}),
			n.Transit.Sysctl("net.ipv4.ip_forward", "1"),
		)
	}
	// The forwarder changes no frame, so each side addresses the other's interface behind its next hop. To transit's
	// own stack such a frame is somebody else's, and is dropped there at once.
	clientMAC, err := n.Client.HardwareAddr("eth0")
	if err != nil {
		return err
	}
	gatewayMAC, err := n.Gateway.HardwareAddr("eth0")
	if err != nil {
		return err
	}
	return errors.Join(
		n.Client.AddNeighbour("eth0", transitToClient, gatewayMAC),
		n.Gateway.AddNeighbour("eth0", transitToGateway, clientMAC),
	)
}

// AddRoute adds a route with the congestion control that the Net was asked for.
func (n *Net) AddRoute(h *netns.Host, r netns.Route) error {
	r.CC = n.routeCC
	return h.AddRoute(r)
}

// RouteCC is the congestion control that every route must carry; empty if there is no need to.
func (n *Net) RouteCC() string { return n.routeCC }

// Direct lets the client reach the target without any peer.
func (n *Net) Direct() error {
	return n.AddRoute(n.Client, netns.Route{To: TargetNet, Dev: "eth0", Via: transitToClient})
}

// Close ends every process on the hosts and frees them.
func (n *Net) Close() error {
	var errs []error
	for _, h := range n.Hosts() {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(errs...)
}
