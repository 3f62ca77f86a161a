package packet

import (
	"encoding/binary"
	"net/netip"
)

const headerUDP = 8

// UDP is a parsed UDP datagram. Payload slices into the packet.
type UDP struct {
	Src, Dst netip.AddrPort
	Payload  []byte
}

// UDP reads p's payload as UDP. A datagram shorter than the packet that carries it is refused.
func (p *Packet) UDP() (UDP, error) {
	if p.Proto != ProtoUDP {
		return UDP{}, errNotUDP
	}
	b := p.Payload
	if len(b) < headerUDP {
		return UDP{}, errShortUDP
	}
	if int(binary.BigEndian.Uint16(b[4:])) != len(b) {
		return UDP{}, errLengthUDP
	}
	// Over IPv4 zero says that the sender computed none; over IPv6 it is an error (RFC 8200 §8.1).
	if binary.BigEndian.Uint16(b[6:]) != 0 || p.Src.Is6() {
		if binary.BigEndian.Uint16(b[6:]) == 0 || fold(sum(pseudo(p.Src, p.Dst, ProtoUDP, len(b)), b)) != 0xffff {
			return UDP{}, errSumUDP
		}
	}
	return UDP{
		Src:     netip.AddrPortFrom(p.Src, binary.BigEndian.Uint16(b)),
		Dst:     netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(b[2:])),
		Payload: b[headerUDP:],
	}, nil
}

// UDPOverhead is the length of the IP and UDP headers of a packet built here from or to a.
func UDPOverhead(a netip.Addr) int {
	if a.Unmap().Is4() {
		return header4 + headerUDP
	}
	return header6 + headerUDP
}

// MaxUDPPayload is the longest UDP payload of a packet from or to a.
func MaxUDPPayload(a netip.Addr) int {
	if a.Unmap().Is4() {
		return maxLength - header4 - headerUDP
	}
	return maxLength - headerUDP
}

// AppendUDP appends a UDP packet to b.
func AppendUDP(b []byte, src, dst netip.AddrPort, payload []byte) ([]byte, error) {
	at := len(b)
	b, err := appendUDPHeaders(b, src, dst, len(payload))
	if err != nil {
		return b[:at], err
	}
	b = append(b, payload...)
	sumUDP(b[len(b)-len(payload)-headerUDP:], src.Addr(), dst.Addr())
	return b, nil
}

// PutUDP makes b a UDP packet whose payload is in place already: b begins with UDPOverhead(dst.Addr()) bytes of room,
// which it overwrites with the headers.
func PutUDP(b []byte, src, dst netip.AddrPort) error {
	room := UDPOverhead(dst.Addr())
	if len(b) < room {
		return errRoom
	}
	if _, err := appendUDPHeaders(b[:0:room], src, dst, len(b)-room); err != nil {
		return err
	}
	sumUDP(b[room-headerUDP:], src.Addr(), dst.Addr())
	return nil
}

func appendUDPHeaders(b []byte, src, dst netip.AddrPort, size int) ([]byte, error) {
	if size > MaxUDPPayload(dst.Addr()) {
		return b, errPayloadLong
	}
	b, err := appendHeader(b, src.Addr(), dst.Addr(), ProtoUDP, headerUDP+size)
	if err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(headerUDP+size))
	return append(b, 0, 0), nil
}

// sumUDP fills in the checksum of the datagram b, whose checksum field is zero. A sum of zero is sent as its other
// form, since zero means absent.
func sumUDP(b []byte, src, dst netip.Addr) {
	c := ^fold(sum(pseudo(src.Unmap(), dst.Unmap(), ProtoUDP, len(b)), b))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], c)
}
