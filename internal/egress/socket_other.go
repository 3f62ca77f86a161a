//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package egress

import (
	"errors"
	"net"
	"net/netip"
)

// socket is a UDP socket, in what Go's net package offers everywhere.
type socket struct{ conn *net.UDPConn }

// parked is the buffer each mapping holds here while it waits: longer datagrams are lost.
const parked = 4096

func newSocket(conn *net.UDPConn) (*socket, error) { return &socket{conn}, nil }

func (s *socket) send(b []byte, to netip.AddrPort, _ how) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

func (s *socket) close() { s.conn.Close() }

func (s *socket) serve(m *mapping) {
	buf := make([]byte, headroom+parked)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf[headroom:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil:
			m.in(buf[:headroom+n], from)
		}
	}
}
