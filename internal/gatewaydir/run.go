package gatewaydir

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-vpn/godwit/internal/certificate"
	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gateway"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/relay"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/dns"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
)

// Service is a gateway and all that its settings put around it.
type Service struct {
	Gateway      *gateway.Gateway
	Relay        *relay.Relay // nil if this is none
	Egress       *egress.Sockets
	Certificates *certificate.Manager

	forward   Forwarder // nil where sockets carry packets
	website   []*https.Listener
	redirects []redirect
	pipes     pipes
	others    []transport.Listener // on UDP
	drained   chan struct{}        // closed by Drain
	drain     sync.Once
}

// Forwarder is an Egress by which the kernel carries packets, beside the sockets. Close may be called more than once.
type Forwarder interface {
	flow.Egress
	flow.Forwarder
	Close() error
}

// redirect sends plain HTTP on to the website.
type redirect struct {
	l      net.Listener
	server *http.Server
}

// Service makes the gateway and opens its ports. Run it, or Close it.
func (d *Dir) Service(log *slog.Logger) (_ *Service, err error) {
	s := d.Settings
	if err := s.Validate(); err != nil {
		return nil, err
	}
	g := &Service{drained: make(chan struct{})}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.Certificates, err = d.Certificates(log); err != nil {
		return nil, err
	}
	if g.Relay, err = d.relay(log); err != nil {
		return nil, err
	}
	own := link.Door{Secret: d.Secrets.DoorSecret, Directory: [ed25519.PublicKeySize]byte(d.Secrets.DirectoryKey())}
	var door transport.Door = own
	if g.Relay != nil {
		door = g.Relay.Door(own)
	}
	if g.pipes, err = d.pipes(own); err != nil {
		return nil, err
	}
	website, err := d.website(g.pipes.step.Fill)
	if err != nil {
		return nil, err
	}
	website = g.pipes.website(website)
	var listeners, quics []transport.Listener
	var ports []netip.AddrPort
	for _, a := range s.Listen {
		tcp, err := d.listen("tcp", a)
		if err != nil {
			return nil, fmt.Errorf("field listen: %w", err)
		}
		ports = append(ports, tcp.Addr().(*net.TCPAddr).AddrPort())
		l := https.Listen(tcp, https.ListenConfig{
			GetCertificate: g.Certificates.GetCertificate,
			Challenge:      g.Certificates.ConfigForChallenge,
			Tickets:        d.TLS.tickets(),
			Key:            d.TLS.Pin,
			Door:           door,
			Website:        s.alternative(website, ports[len(ports)-1].Port()),
			Congestion:     s.Congestion,
		})
		g.website = append(g.website, l)
		if g.Relay != nil {
			listeners = append(listeners, g.Relay.Listener(l))
		} else {
			listeners = append(listeners, l)
		}
		if s.offers(quic.Name) {
			q, err := d.quic(tcp.Addr(), quic.ListenConfig{GetCertificate: g.Certificates.GetCertificate, Key: d.TLS.Pin, Door: own,
				Website: website, Tickets: d.TLS.derive("godwit quic tickets v1")})
			if err != nil {
				return nil, fmt.Errorf("field listen: UDP, which transports = [\"https\"] would leave out: %w", err)
			}
			g.others, quics = append(g.others, q), append(quics, q)
		}
	}
	for _, a := range s.redirects() {
		tcp, err := d.listen("tcp", a)
		if err != nil {
			return nil, fmt.Errorf("field website.redirect: %w", err)
		}
		ports = append(ports, tcp.Addr().(*net.TCPAddr).AddrPort())
		handler := g.Certificates.HTTPHandler(g.pipes.redirect(decoy.Redirect(s.websitePort())))
		g.redirects = append(g.redirects, redirect{https.Bounded(tcp, d.TLS.Pin), https.NewServer(handler)})
	}
	servers, at, err := d.nameServers(own)
	if err != nil {
		return nil, err
	}
	g.others, ports = append(g.others, servers...), append(ports, at...)
	if g.Egress, err = egress.New(s.Egress.config(ports, log)); err != nil {
		return nil, err
	}
	var out flow.Egress = g.Egress
	if d.Forward != nil {
		if g.forward, err = d.Forward(g.Egress); err != nil {
			return nil, err
		}
	}
	if g.forward != nil {
		out = g.forward
	}
	all := map[string][]transport.Listener{https.Name: listeners}
	g.pipes.listeners(all)
	all[dns.Name], all[quic.Name] = servers, quics
	g.Gateway = gateway.New(gateway.Config{
		Listeners: all,
		Control:   d.Control,
		Network:   d.Secrets.Network(),
		Egress:    out,
		Logger:    log,
		Browser:   (&offer{dir: d}).newer,
		Memory:    s.MemoryMiB << 20,
	})
	return g, nil
}

// Run serves until ctx is done, and then tells the clients and ends everything; or until it has drained. It returns nil
// then.
func (g *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer cancel()
		return g.Gateway.Run(gctx)
	})
	// Whoever took over the sockets renews certificates and answers plain HTTP, too.
	around, stop := context.WithCancel(gctx)
	defer stop()
	group.Go(func() error {
		select {
		case <-g.drained:
			stop()
		case <-gctx.Done():
		}
		return nil
	})
	group.Go(func() error {
		g.Certificates.Run(around) // it ends with the context, and what else goes wrong its status tells
		return nil
	})
	for _, r := range g.redirects {
		group.Go(func() error {
			if err := r.server.Serve(r.l); around.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("answering plain HTTP: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-around.Done()
			ctx, cancel := context.WithTimeout(gctx, lastAnswers)
			defer cancel()
			r.server.Shutdown(ctx) // those that are left are closed with the ports
			return nil
		})
	}
	group.Go(func() error {
		<-gctx.Done()
		g.closePorts()
		return nil
	})
	return group.Wait()
}

// lastAnswers is how long plain HTTP's visitors may take when another process has taken over.
const lastAnswers = 10 * time.Second

// Drain makes Run take nobody new, ask every client to leave, and return when all have, or after a while. It does not
// wait.
func (g *Service) Drain(within time.Duration) {
	g.drain.Do(func() { close(g.drained) })
	g.Gateway.Drain(within)
}

// Idle returns since when nobody has been here who passed a door, as Gateway.Idle does.
func (g *Service) Idle() (since time.Time, ok bool) {
	since, ok = g.Gateway.Idle()
	if g.Relay == nil {
		return since, ok
	}
	relayed, none := g.Relay.Idle()
	switch {
	case g.Relay.Status().Pipes > 0:
		return since, false
	case ok && none && relayed.After(since), !ok && none && g.Gateway.Unvisited():
		return relayed, true
	}
	return since, ok
}

// Close closes all there is. It may be called more than once.
func (g *Service) Close() {
	g.closePorts()
	if g.Relay != nil {
		g.Relay.Close()
	}
	if g.forward != nil {
		g.forward.Close()
	}
	if g.Egress != nil {
		g.Egress.Close()
	}
}

func (g *Service) closePorts() {
	for _, r := range g.redirects {
		r.server.Close()
		r.l.Close()
	}
	for _, l := range g.website {
		l.Close()
	}
	for _, l := range g.others {
		l.Close()
	}
}

// websitePort is the port that visitors are sent on to.
func (s Settings) websitePort() uint16 {
	for _, l := range s.Listen {
		if _, port, err := net.SplitHostPort(l); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err == nil {
				return uint16(n)
			}
		}
	}
	return 443
}

// listen opens a socket, or finds the one that was handed over.
func (d *Dir) listen(network, address string) (net.Listener, error) {
	if d.Listen == nil {
		return net.Listen(network, address)
	}
	return d.Listen(network, address)
}

// config is what the egress is told. The settings have been validated.
func (s EgressSettings) config(own []netip.AddrPort, log *slog.Logger) egress.Config {
	c := egress.Config{Log: log, Own: own, Router: true, Upstream: s.Upstream, Resolver: s.Resolver, ClosedPorts: s.ClosedPorts}
	for _, p := range s.Allow {
		if prefix, err := netip.ParsePrefix(p); err == nil {
			c.Allow = append(c.Allow, prefix)
		}
	}
	c.Source4, _ = netip.ParseAddr(s.Source4)
	c.Source6, _ = netip.ParseAddr(s.Source6)
	return c
}
