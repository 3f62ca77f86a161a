package egress

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// canPing says that there are sockets for ICMP echo which need no privilege (icmp(7), ping_group_range). A kernel that
// does not allow them to the gateway's group makes openPing fail, and the echo is dropped.
const canPing = true

func openPing(v6 bool, source netip.Addr, control func(network, address string, c syscall.RawConn) error) (*net.UDPConn, error) {
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var at unix.Sockaddr = &unix.SockaddrInet4{}
	if v6 {
		domain, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		at = &unix.SockaddrInet6{}
	}
	if source.Is4() {
		at = &unix.SockaddrInet4{Addr: source.As4()}
	} else if source.Is6() {
		at = &unix.SockaddrInet6{Addr: source.As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close() // FilePacketConn duplicates it
	raw, err := f.SyscallConn()
	if err == nil {
		reportErrors(raw, v6)
		if control != nil {
			err = control("ip", "", raw)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, at); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// reportErrors has the kernel keep the ICMP errors that datagrams of an unconnected socket earn (ip(7), IP_RECVERR):
// otherwise nobody would hear of them. Best effort.
func reportErrors(c syscall.RawConn, v6 bool) {
	_ = c.Control(func(fd uintptr) {
		if v6 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		} else {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		}
	})
}

// passErrors passes on the errors that wait at the socket.
func passErrors(fd int, v6 bool, m *mapping, buf []byte) {
	var oob [512]byte
	for range burst {
		n, oobn, _, sa, err := unix.Recvmsg(fd, buf, oob[:], unix.MSG_ERRQUEUE)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		dest := addrPortOf(sa)
		why, ok := lossOf(oob[:oobn], v6)
		if ok && dest.IsValid() && (why.mtu == 0 || m.sock.sendsWhole()) {
			m.lost(netip.AddrPortFrom(dest.Addr().Unmap(), dest.Port()), why, buf[:n])
		}
	}
}

// lossOf finds the ICMP error in a control message: a struct sock_extended_err of linux/errqueue.h, which begins
//
//	0  errno (4)   4  origin (1): 2 ICMP, 3 ICMPv6   5  type (1)   6  code (1)   7  0   8  MTU (4)   12  0 (4)
//	16  the router that says so: sockaddr_in or sockaddr_in6
func lossOf(oob []byte, v6 bool) (loss, bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return loss{}, false
	}
	for _, c := range msgs {
		if len(c.Data) < 16 {
			continue
		}
		is4 := c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_RECVERR
		is6 := c.Header.Level == unix.IPPROTO_IPV6 && c.Header.Type == unix.IPV6_RECVERR
		if is4 && v6 || is6 && !v6 || !is4 && !is6 {
			continue
		}
		origin, typ, code := c.Data[4], c.Data[5], c.Data[6]
		if unix.Errno(binary.NativeEndian.Uint32(c.Data)) == unix.EMSGSIZE {
			// If it is the kernel's own, send has failed, and knows of which datagram.
			mtu := int(binary.NativeEndian.Uint32(c.Data[8:]))
			return loss{mtu: mtu}, mtu > 0 && origin != unix.SO_EE_ORIGIN_LOCAL
		}
		if at, ok := endOf(c.Data); ok {
			return loss{at: at}, true
		}
		reason, ok := reasonOfICMP(origin, typ, code)
		return loss{reason: reason}, ok
	}
	return loss{}, false
}

// endOf is the router where a hop limit ran out.
func endOf(b []byte) (at netip.Addr, ok bool) {
	switch origin, typ, code := b[4], b[5], b[6]; {
	case code != 0: // in fragments
	case origin == unix.SO_EE_ORIGIN_ICMP && typ == 11 && len(b) >= 16+unix.SizeofSockaddrInet4:
		return netip.AddrFrom4([4]byte(b[16+4:])), true
	case origin == unix.SO_EE_ORIGIN_ICMP6 && typ == 3 && len(b) >= 16+unix.SizeofSockaddrInet6:
		return netip.AddrFrom16([16]byte(b[16+8:])), true
	}
	return at, false
}

func reasonOfICMP(origin, typ, code byte) (packet.Reason, bool) {
	switch {
	case origin == unix.SO_EE_ORIGIN_ICMP && typ == 3:
		switch code {
		case 3:
			return packet.NoPort, true
		case 1, 7, 12:
			return packet.NoHost, true
		case 9, 10, 13:
			return packet.Prohibited, true
		}
		return packet.NoRoute, true
	case origin == unix.SO_EE_ORIGIN_ICMP6 && typ == 1:
		switch code {
		case 4:
			return packet.NoPort, true
		case 3:
			return packet.NoHost, true
		case 1, 5, 6:
			return packet.Prohibited, true
		}
		return packet.NoRoute, true
	}
	return 0, false
}
