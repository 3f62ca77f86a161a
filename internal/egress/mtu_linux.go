package egress

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// setWhole says whether a socket's datagrams must get there whole, or are fragmented by the kernel where they have to be. Best
// effort.
func setWhole(c syscall.RawConn, v6, whole bool) {
	level, option, how := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_WANT
	if whole {
		how = unix.IP_PMTUDISC_DO
	}
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER // whose values are the same
	}
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), level, option, how) })
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
