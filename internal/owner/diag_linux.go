package owner

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What is asked, and what comes back (linux/inet_diag.h; sock_diag(7)). Ports and addresses are in the network's order, all
// else in the machine's.
//
//	inet_diag_req_v2   family (1)   protocol (1)   extensions (1)   0   states (4)   inet_diag_sockid (48)
//	inet_diag_msg      family (1)   state (1)   timer (1)   retrans (1)   inet_diag_sockid (48)
//	                   expires (4)   rqueue (4)   wqueue (4)   uid (4)   inode (4)   attributes
//	inet_diag_sockid   sport (2)   dport (2)   src (16)   dst (16)   interface (4)   cookie (8)
const (
	sockDiagByFamily = 20
	diagCgroupID     = 21 // INET_DIAG_CGROUP_ID, since Linux 5.7
	listening        = 10 // TCP_LISTEN
	requestSize      = 56
	messageSize      = 72
)

// ask asks the kernel. That takes no privilege.
func ask(s Socket) (o Owner, ok bool) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return o, false
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if unix.Sendto(fd, request(s), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return o, false
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return o, false
	}
	uid, group, ok := parse(b[:n])
	if !ok {
		return o, false
	}
	return Owner{UID: uid, Cgroup: groups.path(group)}, true
}

func request(s Socket) []byte {
	family, proto := byte(unix.AF_INET), byte(unix.IPPROTO_TCP)
	if s.Local.Addr().Is6() {
		family = unix.AF_INET6
	}
	src, dst := s.Local, s.Remote
	if s.UDP {
		proto = unix.IPPROTO_UDP
		src, dst = dst, src // "for historical reasons", says udp_diag.c
	}
	order := binary.NativeEndian
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+requestSize)
	order.PutUint32(b, unix.NLMSG_HDRLEN+requestSize)
	order.PutUint16(b[4:], sockDiagByFamily)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST)
	b = append(b, family, proto, 0, 0)
	b = order.AppendUint32(b, ^uint32(0))
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	for _, a := range []netip.Addr{src.Addr(), dst.Addr()} {
		var field [16]byte
		copy(field[:], a.AsSlice())
		b = append(b, field[:]...)
	}
	b = order.AppendUint32(b, 0)
	return order.AppendUint64(b, ^uint64(0)) // whatever its cookie
}

// parse reads the one message that comes back. A socket without an inode has been closed, and is then nobody's; one that
// listens has answered for want of the one that was meant: the connection is forwarded for others.
func parse(b []byte) (uid uint32, group uint64, ok bool) {
	order := binary.NativeEndian
	if len(b) < unix.NLMSG_HDRLEN || order.Uint16(b[4:]) != sockDiagByFamily {
		return 0, 0, false // an error: there is none
	}
	size := order.Uint32(b)
	if size < unix.NLMSG_HDRLEN+messageSize || int(size) > len(b) {
		return 0, 0, false
	}
	m := b[unix.NLMSG_HDRLEN:size]
	uid = order.Uint32(m[64:])
	if order.Uint32(m[68:]) == 0 || m[1] == listening {
		return 0, 0, false
	}
	for m = m[messageSize:]; len(m) >= unix.SizeofNlAttr; {
		n := int(order.Uint16(m))
		if n < unix.SizeofNlAttr || n > len(m) {
			break
		}
		if order.Uint16(m[2:]) == diagCgroupID && n >= unix.SizeofNlAttr+8 {
			group = order.Uint64(m[unix.SizeofNlAttr:])
		}
		m = m[min(len(m), (n+3)&^3):]
	}
	return uid, group, true
}
