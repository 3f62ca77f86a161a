package packet

import (
	"encoding/binary"
	"net/netip"
)

// Readdress gives the packet, in place, another source and destination, of its own family; one that is not valid stays. Its
// checksums stay as right or wrong as they were (RFC 1624).
func (p *Packet) Readdress(src, dst netip.Addr) {
	at := len(p.whole) - len(p.Payload)
	if src.IsValid() {
		readdress(p.whole, at, p.Proto, false, src)
		p.Src = src
	}
	if dst.IsValid() {
		readdress(p.whole, at, p.Proto, true, dst)
		p.Dst = dst
	}
}

// ReaddressQuote changes, in an ICMP error, the source of the packet that it is about from one address to another, and its
// destination if dst is valid, as whoever has readdressed that packet on its way out must. It does nothing to other packets, and to
// errors that quote somebody else's.
func (p *Packet) ReaddressQuote(from, to, dst netip.Addr) {
	p.readdressQuote(func(q Quote) (netip.Addr, netip.Addr) {
		if q.Src.Addr() != from {
			return netip.Addr{}, netip.Addr{}
		}
		return to, dst
	})
}

// ReaddressQuotedDst changes, in an ICMP error, the destination of the packet that it is about from one address to another, as
// whoever has readdressed that packet on its way in must. It does nothing to other packets, as ReaddressQuote.
func (p *Packet) ReaddressQuotedDst(from, to netip.Addr) {
	p.readdressQuote(func(q Quote) (_, dst netip.Addr) {
		if q.Dst.Addr() == from {
			dst = to
		}
		return netip.Addr{}, dst
	})
}

// readdressQuote gives the packet that an ICMP error is about the addresses that change says; those that are not valid stay.
func (p *Packet) readdressQuote(change func(Quote) (src, dst netip.Addr)) {
	m, err := p.ICMP()
	if err != nil {
		return
	}
	q, err := m.Quoted()
	if err != nil {
		return
	}
	at := header6
	if p.Src.Is4() {
		at = int(m.Body[0]&15) * 4
	}
	src, dst := change(q)
	if !src.IsValid() && !dst.IsValid() {
		return
	}
	if src.IsValid() {
		readdress(m.Body, at, q.Proto, false, src)
	}
	if dst.IsValid() {
		readdress(m.Body, at, q.Proto, true, dst)
	}
	b := p.Payload
	b[2], b[3] = 0, 0
	var acc uint64
	if p.Src.Is6() {
		acc = pseudo(p.Src, p.Dst, ProtoICMPv6, len(b))
	}
	binary.BigEndian.PutUint16(b[2:], ^fold(sum(acc, b)))
}

// readdress changes one address of the packet b, whose payload begins at at, and may be cut short.
func readdress(b []byte, at int, proto uint8, destination bool, to netip.Addr) {
	from, size := 12, 4
	if to.Is6() {
		from, size = 8, 16
	}
	if destination {
		from += size
	}
	old := WordSum(b[from : from+size])
	copy(b[from:], to.AsSlice())
	now := WordSum(b[from : from+size])
	if size == 4 {
		AdjustChecksum(b[10:], old, now, true)
	}
	field := 0
	switch proto {
	case ProtoUDP:
		field = 6
	case ProtoTCP:
		field = 16
	case ProtoICMPv6:
		field = 2
	default:
		return
	}
	if b = b[at:]; len(b) < field+2 {
		return
	}
	b = b[field:]
	if proto == ProtoUDP && b[0] == 0 && b[1] == 0 {
		return // there is none
	}
	AdjustChecksum(b, old, now, true)
	if proto == ProtoUDP && b[0] == 0 && b[1] == 0 {
		b[0], b[1] = 0xff, 0xff
	}
}

// WordSum is the sum of 16-bit words, as AdjustChecksum takes it.
func WordSum(b []byte) (acc uint64) {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint64(binary.BigEndian.Uint16(b))
	}
	return acc
}

// AdjustChecksum changes the checksum at b for 16-bit words whose sum was old and is now. A checksum that is yet to be made is
// a plain sum, and not complemented.
func AdjustChecksum(b []byte, old, now uint64, complemented bool) {
	acc := uint64(binary.BigEndian.Uint16(b))
	if complemented {
		acc = ^acc & 0xffff
	}
	acc += now + uint64(^fold(old))
	acc = uint64(fold(acc))
	if complemented {
		acc = ^acc & 0xffff
	}
	binary.BigEndian.PutUint16(b, uint16(acc))
}
