package client

import (
	"net/netip"
	"syscall"
)

func localOf(fd uintptr) netip.AddrPort {
	sa, _ := syscall.Getsockname(syscall.Handle(fd))
	return addrPort(sa)
}
