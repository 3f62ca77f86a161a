//go:build !linux

package egress

import (
	"net/netip"
	"syscall"
)

// setHow does nothing: elsewhere than on Linux nobody would hear of what did not get there.
func setHow(syscall.RawConn, bool, how) {}

func (*Sockets) pathMTU(netip.AddrPort) int { return 0 }
