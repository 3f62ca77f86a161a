package egress

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// setHow says how a socket's datagrams are sent. Best effort.
func setHow(c syscall.RawConn, v6 bool, how how) {
	level, fragments, ttl := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_TTL
	if v6 {
		level, fragments, ttl = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_UNICAST_HOPS // with the same values
	}
	discover, hops := unix.IP_PMTUDISC_WANT, -1
	if how.whole {
		discover = unix.IP_PMTUDISC_DO
	}
	if how.hops > 0 {
		hops = int(how.hops)
	}
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), level, fragments, discover)
		_ = unix.SetsockoptInt(int(fd), level, ttl, hops)
	})
}

// pathMTU is what the kernel knows of the way to an address, which it tells of connected sockets only; 0 if it does not.
func (s *Sockets) pathMTU(to netip.AddrPort) (mtu int) {
	d := net.Dialer{Control: s.cfg.Control}
	network, source, level, option := "udp4", s.cfg.Source4, unix.IPPROTO_IP, unix.IP_MTU
	if familyOf(to.Addr()) == flow.IPv6 {
		network, source, level, option = "udp6", s.cfg.Source6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	if source.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	c, err := d.DialContext(context.Background(), network, to.String()) // sends nothing
	if err != nil {
		return 0
	}
	defer c.Close()
	if raw, err := c.(*net.UDPConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { mtu, _ = unix.GetsockoptInt(int(fd), level, option) })
	}
	return mtu
}
