package client

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/godwit-vpn/godwit/internal/capture/proxy"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// ServeLogin is ServeProxy for one browser in which a person logs in to the network that the machine is in: what comes on l goes
// past the tunnel, to those hosts that pass lets it, by TCP. Names are looked up by net.DefaultResolver. It returns when ctx is
// done, and all connections are gone.
func (c *Client) ServeLogin(ctx context.Context, l net.Listener, pass func(host string) bool) error {
	return proxy.New(proxy.Config{Outside: login{c, pass}, Logger: c.log, MaxConns: 256}).Serve(ctx, l)
}

// login is a flow.Outside that is not by way of the gateway.
type login struct {
	c    *Client
	pass func(host string) bool
}

var errNotLogin = flow.Errorf(flow.CodeDenied, "not what logging in to this network takes")

// Open implements flow.Opener.
func (o login) Open(ctx context.Context, t flow.Target, _ bool) (flow.Stream, error) {
	if !o.pass(t.Host) {
		return nil, errNotLogin
	}
	d := net.Dialer{Control: func(network, address string, s syscall.RawConn) error {
		// A browser keeps pages from this machine's own services by their address, which it cannot see behind a proxy.
		if at, err := netip.ParseAddrPort(address); err != nil || at.Addr().IsLoopback() || at.Addr().IsUnspecified() {
			return errNotLogin
		}
		if o.c.cfg.Protect == nil {
			return nil
		}
		return o.c.cfg.Protect(network, address, s)
	}}
	conn, err := d.DialContext(ctx, "tcp", t.String())
	if err != nil {
		return nil, flow.Errorf(flow.CodeOf(err), "past the tunnel: %v", err)
	}
	return &directStream{TCPConn: conn.(*net.TCPConn)}, nil
}

// Resolve implements flow.Resolver: browsers leave names to their proxy.
func (o login) Resolve(context.Context, string) ([]netip.Addr, error) { return nil, errNotLogin }

// ListenPacket implements flow.PacketOpener.
func (o login) ListenPacket(context.Context) (net.PacketConn, error) { return nil, errNotLogin }
