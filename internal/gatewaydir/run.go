package gatewaydir

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gateway"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// Gateway makes a gateway of the directory's settings, with its listeners open. Close the egress when Run has returned.
func (d *Dir) Gateway(log *slog.Logger) (*gateway.Gateway, *egress.Sockets, error) {
	s := d.Settings
	if err := s.Validate(); err != nil {
		return nil, nil, err
	}
	var names []string
	for _, e := range s.Endpoints {
		if t, err := flow.ParseTarget(e); err == nil {
			if _, isAddr := t.Addr(); !isAddr {
				names = append(names, t.Host)
			}
		}
	}
	cert, err := d.TLS.Certificate(names)
	if err != nil {
		return nil, nil, err
	}
	var listeners []transport.Listener
	closeAll := func() {
		for _, l := range listeners {
			l.Close()
		}
	}
	var own []netip.AddrPort
	for _, a := range s.Listen {
		tcp, err := d.listen("tcp", a)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("field listen: %w", err)
		}
		own = append(own, tcp.Addr().(*net.TCPAddr).AddrPort())
		l, err := https.Listen(tcp, https.ListenConfig{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
			Key:            d.TLS.Pin,
			Door:           link.Door{Secret: d.Secrets.DoorSecret},
			Website:        http.NotFoundHandler(),
			Congestion:     s.Congestion,
		})
		if err != nil {
			tcp.Close()
			closeAll()
			return nil, nil, err
		}
		listeners = append(listeners, l)
	}
	out, err := egress.New(s.Egress.config(own, log))
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return gateway.New(gateway.Config{
		Listeners: map[string][]transport.Listener{https.Name: listeners},
		Control:   d.Control,
		Network:   d.Secrets.Network(),
		Egress:    out,
		Logger:    log,
		Memory:    s.MemoryMiB << 20,
	}), out, nil
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
	c := egress.Config{Log: log, Own: own, Upstream: s.Upstream, ClosedPorts: s.ClosedPorts}
	for _, p := range s.Allow {
		if prefix, err := netip.ParsePrefix(p); err == nil {
			c.Allow = append(c.Allow, prefix)
		}
	}
	c.Source4, _ = netip.ParseAddr(s.Source4)
	c.Source6, _ = netip.ParseAddr(s.Source6)
	return c
}
