package tcp

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/transport"
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

// path asks the kernel what it knows of the connection's path.
func path(c net.Conn) (p transport.Path) {
	onSocket(c, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		p = transport.Path{
			RTT:      time.Duration(info.Rtt) * time.Microsecond,
			LeastRTT: time.Duration(info.Min_rtt) * time.Microsecond,
			Sent:     uint64(info.Data_segs_out),
			Resent:   uint64(info.Total_retrans),
		}
	})
	return p
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
