// Package packet reads and builds the IP packets that cross a session: UDP, ICMP echo and ICMP errors, over IPv4 and
// IPv6. It works in place and allocates nothing: reading slices into the packet it is given, building appends to the
// slice it is given.
//
// A packet is exactly as long as its header says; bytes after it are refused, not ignored. All numbers are big endian.
//
//	IPv4 (RFC 791)                                           IPv6 (RFC 8200)
//	 0  4 | header length in words (1)                        0  6 | traffic class | flow label (4)
//	 1  traffic class (1)                                     4  payload length = length of packet - 40 (2)
//	 2  total length = length of packet (2)                   6  next header (1)
//	 4  identification (2)                                    7  hop limit (1)
//	 6  0 | don't fragment | more | fragment offset (2)       8  source (16)
//	 8  hop limit (1)                                        24  destination (16)
//	 9  protocol (1)                                         40  extension headers, payload
//	10  header checksum (2)
//	12  source (4)
//	16  destination (4)
//	20  options (0 to 40), payload
//
//	UDP (RFC 768)                     ICMP echo                         ICMP error (RFC 792, RFC 4443)
//	0  source port (2)                0  type: 8, 0 / 128, 129 (1)      0  type: 3 / 1, 2 (1)
//	2  destination port (2)           1  code 0 (1)                     1  code (1)
//	4  length = 8 + payload (2)       2  checksum (2)                   2  checksum (2)
//	6  checksum (2)                   4  identifier (2)                 4  0, or the MTU of "too big" (4)
//	8  payload                        6  sequence (2)                   8  the start of the packet it is about
//	                                  8  data
//
// Every checksum is checked; the only one that may be absent is UDP's over IPv4, as zero. IPv4 options are skipped,
// since nothing here forwards them. Of IPv6's extension headers, hop-by-hop and destination options are walked, and
// skipped if every option in them may be skipped; a routing header is refused, because with it the header's destination
// is not the packet's, and so is any other one. Fragments are refused, whole ones in a fragment header too: whoever
// sends through a session learns the tunnel's MTU and stays below it. IPv4-mapped addresses are refused in an IPv6
// header: they would be two spellings of one address to everything that looks at packets.
package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Protocol numbers, as in Packet.Proto.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

const (
	header4 = 20
	header6 = 40
	// hopLimit is what packets built here start with, the default of most hosts.
	hopLimit = 64
	// maxLength is the most that fits IPv4's total length, and IPv6's payload length.
	maxLength = 65535
)

// What can be wrong with a packet. The errors returned match one of these and say which field it was.
var (
	ErrShort     = errors.New("packet too short")
	ErrVersion   = errors.New("not an IPv4 or IPv6 packet")
	ErrLength    = errors.New("wrong length in a packet")
	ErrChecksum  = errors.New("wrong checksum in a packet")
	ErrFragment  = errors.New("fragment of a packet")
	ErrExtension = errors.New("extension header that cannot be skipped")
	ErrProtocol  = errors.New("not the protocol asked for")
	ErrTooLong   = errors.New("too long for a packet")
	ErrFamily    = errors.New("addresses of different families")
)

// fieldError is a sentinel with the field that was wrong. All are made once, below: the hot path allocates none.
type fieldError struct {
	kind  error
	field string
}

func (e *fieldError) Error() string { return e.kind.Error() + ": " + e.field }
func (e *fieldError) Unwrap() error { return e.kind }

var (
	errEmpty       = &fieldError{ErrShort, "empty"}
	errVersion     = &fieldError{ErrVersion, "version"}
	errShort4      = &fieldError{ErrShort, "ipv4 header"}
	errIHL         = &fieldError{ErrLength, "ipv4 header length"}
	errTotal       = &fieldError{ErrLength, "ipv4 total length"}
	errSum4        = &fieldError{ErrChecksum, "ipv4 header checksum"}
	errFragment4   = &fieldError{ErrFragment, "ipv4 flags and offset"}
	errShort6      = &fieldError{ErrShort, "ipv6 header"}
	errPayload6    = &fieldError{ErrLength, "ipv6 payload length"}
	errFragment6   = &fieldError{ErrFragment, "ipv6 fragment header"}
	errRouting     = &fieldError{ErrExtension, "ipv6 routing header"}
	errUnknownExt  = &fieldError{ErrExtension, "ipv6 next header"}
	errHopByHop    = &fieldError{ErrExtension, "ipv6 hop-by-hop header not first"}
	errMapped      = &fieldError{ErrFamily, "ipv4-mapped address in an ipv6 header"}
	errManyExt     = &fieldError{ErrExtension, "too many ipv6 extension headers"}
	errExtLength   = &fieldError{ErrLength, "ipv6 extension header length"}
	errOption      = &fieldError{ErrExtension, "ipv6 option"}
	errOptionSize  = &fieldError{ErrLength, "ipv6 option length"}
	errNotUDP      = &fieldError{ErrProtocol, "udp"}
	errShortUDP    = &fieldError{ErrShort, "udp header"}
	errLengthUDP   = &fieldError{ErrLength, "udp length"}
	errSumUDP      = &fieldError{ErrChecksum, "udp checksum"}
	errNotICMP     = &fieldError{ErrProtocol, "icmp"}
	errShortICMP   = &fieldError{ErrShort, "icmp header"}
	errSumICMP     = &fieldError{ErrChecksum, "icmp checksum"}
	errNotError    = &fieldError{ErrProtocol, "icmp error"}
	errShortQuote  = &fieldError{ErrShort, "packet in an icmp error"}
	errQuoteFamily = &fieldError{ErrFamily, "packet in an icmp error"}
	errRoom        = &fieldError{ErrShort, "room for headers"}
	errPayloadLong = &fieldError{ErrTooLong, "payload"}
	errAddrs       = &fieldError{ErrFamily, "source and destination"}
)

// Packet is one parsed IP packet. Payload slices into the bytes it was parsed from and is valid as long as they are.
type Packet struct {
	Src, Dst netip.Addr
	// Proto is the protocol of Payload, after any extension headers.
	Proto        uint8
	TrafficClass uint8
	HopLimit     uint8
	// DontFragment is set for every IPv6 packet: no router fragments those.
	DontFragment bool
	// Payload is everything after the IP header, its options and its extension headers.
	Payload []byte

	whole []byte
}

// Parse reads the IP header of b, which must be one whole packet.
func Parse(b []byte) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, errEmpty
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return Packet{}, errVersion
}

// Len is the length of the whole packet.
func (p *Packet) Len() int { return len(p.whole) }

// AllowFragments has a packet built here go on in fragments where it does not fit, IPv4's only: IPv6's say nothing about it. The
// identification should be one that no other packet between the same hosts has for a while.
func AllowFragments(b []byte, identification uint16) {
	if len(b) < header4 || b[0] != 0x45 {
		return
	}
	binary.BigEndian.PutUint16(b[4:], identification)
	b[6] &^= 0x40
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:header4])))
}

// Addrs reads only the addresses of b, for a caller that sorts packets and leaves the checking to whoever uses them.
func Addrs(b []byte) (src, dst netip.Addr, err error) {
	if len(b) == 0 {
		return src, dst, errEmpty
	}
	switch b[0] >> 4 {
	case 4:
		if len(b) < header4 {
			return src, dst, errShort4
		}
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), nil
	case 6:
		if len(b) < header6 {
			return src, dst, errShort6
		}
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), nil
	}
	return src, dst, errVersion
}

func parse4(b []byte) (Packet, error) {
	if len(b) < header4 {
		return Packet{}, errShort4
	}
	n := int(b[0]&0x0f) * 4
	if n < header4 || n > len(b) {
		return Packet{}, errIHL
	}
	if int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return Packet{}, errTotal
	}
	if fold(sum(0, b[:n])) != 0xffff {
		return Packet{}, errSum4
	}
	flags := binary.BigEndian.Uint16(b[6:])
	if flags&0x3fff != 0 { // more fragments, or an offset
		return Packet{}, errFragment4
	}
	return Packet{
		Src:          netip.AddrFrom4([4]byte(b[12:16])),
		Dst:          netip.AddrFrom4([4]byte(b[16:20])),
		Proto:        b[9],
		TrafficClass: b[1],
		HopLimit:     b[8],
		DontFragment: flags&0x4000 != 0,
		Payload:      b[n:],
		whole:        b,
	}, nil
}

// appendHeader appends an IP header for size bytes of payload. IPv4 packets are marked "don't fragment" and so need no
// identification (RFC 6864 §4.1).
func appendHeader(b []byte, src, dst netip.Addr, proto uint8, size int) ([]byte, error) {
	src, dst = src.Unmap(), dst.Unmap()
	switch {
	case src.Is4() && dst.Is4():
		if size > maxLength-header4 {
			return b, errPayloadLong
		}
		at := len(b)
		s, d := src.As4(), dst.As4()
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(header4+size))
		b = append(b, 0, 0, 0x40, 0, hopLimit, proto, 0, 0)
		b = append(b, s[:]...)
		b = append(b, d[:]...)
		binary.BigEndian.PutUint16(b[at+10:], ^fold(sum(0, b[at:])))
		return b, nil
	case src.Is6() && dst.Is6():
		if size > maxLength {
			return b, errPayloadLong
		}
		s, d := src.As16(), dst.As16()
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
		b = append(b, proto, hopLimit)
		b = append(b, s[:]...)
		return append(b, d[:]...), nil
	}
	return b, errAddrs
}
