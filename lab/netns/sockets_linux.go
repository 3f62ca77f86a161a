package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// DialContext connects from a host as a net.Dialer does. The address must be a number: names are looked up by programs
// that run on the host, not by this one.
func (h *Host) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("host %s: dial %q: %w", h.Name, address, err)
	}
	err = h.DoApart(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Dial connects with TCP from a host.
func (h *Host) Dial(addr netip.AddrPort, timeout time.Duration) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Listen listens for TCP on a host.
func (h *Host) Listen(addr netip.AddrPort) (l *net.TCPListener, err error) {
	err = h.Do(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		return err
	})
	return l, err
}

// ListenUDP opens a UDP socket on a host.
func (h *Host) ListenUDP(addr netip.AddrPort) (c *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return c, err
}
