package quic

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenToRefusals has the kernel report what routers and hosts say of our packets ("nobody listens on this port"), or
// not. A dial need not wait then for an answer that will not come. Best effort.
func listenToRefusals(udp net.PacketConn, on bool) {
	sc, ok := udp.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	v := 0
	if on {
		v = 1
	}
	rc.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, v)
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, v)
	})
}
