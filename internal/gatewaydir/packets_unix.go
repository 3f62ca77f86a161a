//go:build unix

package gatewaydir

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenPacket opens a UDP socket beside that of a process which this one takes over from: theirs serves until it closes.
func listenPacket(address string) (net.PacketConn, error) {
	c := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	return c.ListenPacket(context.Background(), "udp", address)
}
