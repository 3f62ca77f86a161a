package hostnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// endSockets ends what programs have open from the TUN's addresses, before the network is theirs again: the kernel would send
// by the physical one what it has not heard to have arrived, and so tell whom they spoke to through the tunnel. To programs a
// connection was aborted. Kernels that cannot do it (without CONFIG_INET_DIAG_DESTROY) are let be.
func endSockets(addrs []netip.Prefix) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, _ := netlink.SocketDiagTCP(family)
		udp, _ := netlink.SocketDiagUDP(family)
		for i, s := range slices.Concat(tcp, udp) {
			src, _ := netip.AddrFromSlice(s.ID.Source)
			if !slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr() == src.Unmap() }) {
				continue
			}
			proto := uint8(unix.IPPROTO_TCP)
			if i >= len(tcp) {
				proto = unix.IPPROTO_UDP
			}
			r := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
			r.AddData(diagRequest(family, proto, s.ID))
			_, _ = r.Execute(unix.NETLINK_INET_DIAG, 0)
		}
	}
}

// rawRequest is a request's body. It implements nl.NetlinkRequestData.
type rawRequest []byte

func (r rawRequest) Len() int          { return len(r) }
func (r rawRequest) Serialize() []byte { return r }

// diagRequest names one socket: an inet_diag_req_v2 (linux/inet_diag.h).
func diagRequest(family, proto uint8, id netlink.SocketID) rawRequest {
	b := []byte{family, proto, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // in whatever state
	b = binary.BigEndian.AppendUint16(b, id.SourcePort)
	b = binary.BigEndian.AppendUint16(b, id.DestinationPort)
	for _, ip := range []net.IP{id.Source, id.Destination} {
		if family == unix.AF_INET {
			ip = ip.To4()
		}
		var field [16]byte
		copy(field[:], ip)
		b = append(b, field[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, id.Interface)
	b = binary.NativeEndian.AppendUint32(b, id.Cookie[0])
	return binary.NativeEndian.AppendUint32(b, id.Cookie[1])
}
