//go:build !linux

package egress

import (
	"net/netip"
	"syscall"
)

// setWhole does nothing: elsewhere than on Linux the kernel fragments whatever does not fit.
func setWhole(syscall.RawConn, bool, bool) {}

func (*Sockets) pathMTU(netip.AddrPort) int { return 0 }
