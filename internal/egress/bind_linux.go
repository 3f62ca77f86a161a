package egress

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bindLate leaves the choice of the local port to connect, which knows the destination: with a source address given,
// bind would choose one that no other connection has, and there are only 28,000 of those. Best effort.
func bindLate(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
