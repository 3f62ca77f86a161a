package quic

import (
	"net"

	"golang.org/x/sys/unix"
)

// listenToRefusals has the kernel report what routers and hosts say of our packets ("nobody listens on this port"), or
// not. A dial need not wait then for an answer that will not come. Best effort.
func listenToRefusals(udp *net.UDPConn, on bool) {
	rc, err := udp.SyscallConn()
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
