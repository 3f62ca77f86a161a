package tun

import (
	"encoding/binary"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// segment is a TCP segment inside of its packet: where its TCP header is, and what it says.
type segment struct {
	at       int // of the TCP header
	src, dst netip.AddrPort
	flags    byte
}

const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	_
	flagACK
)

const tcpHeader = 20

// parseSegment reads whose a packet is, if that is a whole one of TCP. Programs cannot make the kernel send headers between
// IPv6's and TCP's, so none is looked behind.
func parseSegment(b []byte) (s segment, ok bool) {
	if len(b) < 1 {
		return s, false
	}
	var src, dst netip.Addr
	switch {
	case b[0]>>4 == 4 && len(b) >= 20:
		s.at = int(b[0]&15) * 4
		if b[9] != packet.ProtoTCP || s.at < 20 || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 ||
			int(binary.BigEndian.Uint16(b[2:])) != len(b) {
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	case b[0]>>4 == 6 && len(b) >= 40:
		s.at = 40
		if b[6] != packet.ProtoTCP || int(binary.BigEndian.Uint16(b[4:]))+40 != len(b) {
			return s, false
		}
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	default:
		return s, false
	}
	if len(b) < s.at+tcpHeader || int(b[s.at+12]>>4)*4 < tcpHeader || len(b) < s.at+int(b[s.at+12]>>4)*4 {
		return s, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[s.at:]))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[s.at+2:]))
	s.flags = b[s.at+13]
	return s, true
}

// headers is how long the IP and TCP headers are.
func (s segment) headers(b []byte) int { return s.at + int(b[s.at+12]>>4)*4 }

// options are the kinds of a segment's TCP options.
func (s segment) options(b []byte) (kinds [256]bool) {
	s.eachOption(b, func(option []byte) { kinds[option[0]] = true })
	return kinds
}

// keepOptions takes those of other kinds from a SYN, but for the segment size: an end that has not offered one expects none.
func (s segment) keepOptions(f Frame, kinds [256]bool) {
	const nothing, segmentSize = 1, 2
	options := f.Packet[s.at+tcpHeader : s.headers(f.Packet)]
	old := packet.WordSum(options)
	s.eachOption(f.Packet, func(option []byte) {
		if option[0] == segmentSize || kinds[option[0]] {
			return
		}
		for i := range option {
			option[i] = nothing
		}
	})
	if !f.Partial {
		packet.AdjustChecksum(f.Packet[s.at+16:], old, packet.WordSum(options), true)
	}
}

// eachOption calls f with each TCP option, but for those that are nothing; it ends at one that makes no sense.
func (s segment) eachOption(b []byte, f func(option []byte)) {
	const end, nothing = 0, 1
	for b = b[s.at+tcpHeader : s.headers(b)]; len(b) > 0 && b[0] != end; {
		if b[0] == nothing {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		n := int(b[1])
		f(b[:n])
		b = b[n:]
	}
}

// readdress gives the segment in f other addresses, of the same family, and mends its checksums: that of TCP counts the
// addresses, and the ports unless it is yet to be made (RFC 1624).
func (s segment) readdress(f Frame, src, dst netip.AddrPort) {
	b := f.Packet
	from, size := 12, 4
	if b[0]>>4 == 6 {
		from, size = 8, 16
	}
	var old, now uint64
	for i := from; i < from+2*size; i += 2 {
		old += uint64(binary.BigEndian.Uint16(b[i:]))
	}
	copy(b[from:], src.Addr().AsSlice())
	copy(b[from+size:], dst.Addr().AsSlice())
	for i := from; i < from+2*size; i += 2 {
		now += uint64(binary.BigEndian.Uint16(b[i:]))
	}
	if size == 4 {
		packet.AdjustChecksum(b[10:], old, now, true)
	}
	if !f.Partial {
		old += uint64(s.src.Port()) + uint64(s.dst.Port())
		now += uint64(src.Port()) + uint64(dst.Port())
	}
	binary.BigEndian.PutUint16(b[s.at:], src.Port())
	binary.BigEndian.PutUint16(b[s.at+2:], dst.Port())
	packet.AdjustChecksum(b[s.at+16:], old, now, !f.Partial)
}

// reset answers the segment of a packet with a RST, as a host does that knows nothing of it (RFC 9293 §3.5.2). It is nil for
// a RST.
func (s segment) reset(b []byte) []byte {
	if s.flags&flagRST != 0 {
		return nil
	}
	var seq, ack uint32
	flags := byte(flagRST)
	if s.flags&flagACK != 0 {
		seq = binary.BigEndian.Uint32(b[s.at+8:])
	} else {
		flags |= flagACK
		n := uint32(len(b) - s.headers(b))
		if s.flags&flagSYN != 0 {
			n++
		}
		if s.flags&flagFIN != 0 {
			n++
		}
		ack = binary.BigEndian.Uint32(b[s.at+4:]) + n
	}
	answer, err := packet.AppendTCP(nil, s.dst, s.src, seq, ack, flags)
	if err != nil {
		return nil
	}
	return answer
}
