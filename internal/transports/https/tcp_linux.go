package https

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// onSocket runs f on c's descriptor.
func onSocket(c net.Conn, f func(fd int)) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if rc, err := sc.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// setUnsentLimit bounds what the kernel holds unsent. Its poll says "writable" below half of it.
func setUnsentLimit(c net.Conn, bytes int) {
	onSocket(c, func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes) })
}

// setCongestion asks for a congestion control. The kernel may not have it or not allow it; congestion tells.
func setCongestion(c net.Conn, name string) {
	onSocket(c, func(fd int) { unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) })
}

// congestion reads back which congestion control is in use.
func congestion(c net.Conn) (name string) {
	onSocket(c, func(fd int) { name, _ = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION) })
	return name
}
