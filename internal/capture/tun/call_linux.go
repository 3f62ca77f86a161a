package tun

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// bind binds a socket to an address, at a port of the kernel's choice, even one of a connection that has ended lately.
func bind(c syscall.RawConn, a netip.Addr) (port uint16, err error) {
	var at unix.Sockaddr = &unix.SockaddrInet4{}
	if a.Is4() {
		at = &unix.SockaddrInet4{Addr: a.As4()}
	} else {
		at = &unix.SockaddrInet6{Addr: a.As16()}
	}
	cerr := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return
		}
		if err = unix.Bind(int(fd), at); err != nil {
			return
		}
		if at, err = unix.Getsockname(int(fd)); err != nil {
			return
		}
		switch at := at.(type) {
		case *unix.SockaddrInet4:
			port = uint16(at.Port)
		case *unix.SockaddrInet6:
			port = uint16(at.Port)
		}
	})
	if err == nil {
		err = cerr
	}
	return port, err
}
