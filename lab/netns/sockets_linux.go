package netns

import (
	"net"
	"net/netip"
	"time"
)

// Dial connects from a host; it blocks the host's thread meanwhile.
func (h *Host) Dial(addr netip.AddrPort, timeout time.Duration) (c *net.TCPConn, err error) {
	err = h.Do(func() error {
		conn, err := net.DialTimeout("tcp4", addr.String(), timeout)
		if err == nil {
			c = conn.(*net.TCPConn)
		}
		return err
	})
	return c, err
}

// Listen listens on a host.
func (h *Host) Listen(addr netip.AddrPort) (l *net.TCPListener, err error) {
	err = h.Do(func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
		return err
	})
	return l, err
}
