//go:build unix

package client

import (
	"net/netip"
	"syscall"
)

func localOf(fd uintptr) netip.AddrPort {
	sa, _ := syscall.Getsockname(int(fd))
	return addrPort(sa)
}
