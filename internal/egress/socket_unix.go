//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package egress

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a UDP (or ping) socket that never waits to send and holds a buffer only while it has something to read: a
// gateway has thousands of them, nearly all of them silent at any moment.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	v6   bool
	// failed says that send has taken an error from the socket which read would have seen.
	failed atomic.Bool

	mu  sync.Mutex // guards what follows, which is here so that sending does not allocate
	how how        // things are sent now
	b   []byte
	sa4 unix.SockaddrInet4
	sa6 unix.SockaddrInet6
	err error
	fn  func(fd uintptr) bool
}

// burst bounds the datagrams read at once, so that Close is not kept waiting by a flood.
const burst = 64

func newSocket(conn *net.UDPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &socket{conn: conn, raw: raw}
	s.v6 = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().Is6()
	s.fn = s.sendto
	return s, nil
}

// send hands b to the kernel or fails at once, with EAGAIN if the kernel has no room, and with EMSGSIZE if it is to get there
// whole and is longer than what the kernel knows of the way.
func (s *socket) send(b []byte, to netip.AddrPort, how how) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if how != s.how {
		setHow(s.raw, s.v6, how)
		s.how = how
	}
	s.b = b
	if s.v6 {
		s.sa6.Addr, s.sa6.Port = to.Addr().As16(), int(to.Port())
	} else {
		s.sa4.Addr, s.sa4.Port = to.Addr().As4(), int(to.Port())
	}
	err := s.raw.Write(s.fn)
	s.b = nil
	if err != nil {
		return err
	}
	return s.err
}

// sendto is called by send with the descriptor. An error may be an earlier datagram's, which the kernel reports instead
// of sending this one. It takes several tries where many of those have failed: as read takes one report out of the
// queue, the next one becomes the socket's error (Linux, sock_dequeue_err_skb).
func (s *socket) sendto(fd uintptr) bool {
	var to unix.Sockaddr = &s.sa4
	if s.v6 {
		to = &s.sa6
	}
	for try := 0; try < 8; try++ {
		s.err = unix.Sendto(int(fd), s.b, 0, to)
		switch s.err {
		case nil, unix.EAGAIN:
			return true // what the kernel has no room for is dropped, not waited for
		case unix.EINTR:
			continue
		}
		s.failed.Store(true)
		if try > 0 && s.err != unix.ECONNREFUSED {
			return true // no report, but what is wrong with this one
		}
	}
	return true
}

// sendsWhole reports whether what has been sent last had to get there whole.
func (s *socket) sendsWhole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.how.whole
}

func (s *socket) close() { s.conn.Close() }

// serve gives m what comes until the socket is closed.
func (s *socket) serve(m *mapping) {
	f := func(fd uintptr) bool { return s.read(int(fd), m) }
	for s.raw.Read(f) == nil {
	}
}

// read reads what is there. It reports false if that was all, to be called again when there is more.
func (s *socket) read(fd int, m *mapping) bool {
	buf := m.k.s.bufs.Get().(*[maxDatagram]byte)
	defer m.k.s.bufs.Put(buf)
	for i := range burst {
		n, sa, err := unix.Recvfrom(fd, buf[headroom:], 0)
		switch err {
		case nil:
			if from := addrPortOf(sa); from.IsValid() {
				m.in(buf[:headroom+n], from)
			}
		case unix.EINTR:
		case unix.EAGAIN:
			if i == 0 || s.failed.Swap(false) { // woken for nothing: it was for an error
				passErrors(fd, s.v6, m, buf[headroom:])
			}
			return false
		default: // a datagram of ours that did not arrive, which does not end the socket
			passErrors(fd, s.v6, m, buf[headroom:])
		}
	}
	return true
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
