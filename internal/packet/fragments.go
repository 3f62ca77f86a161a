package packet

import "encoding/binary"

// headerFragment is the length of an IPv6 fragment header (RFC 8200 §4.5):
//
//	0  next header (1)   1  0 (1)   2  offset / 8 (13 bits) | 0 | more (1 bit)   4  identification (4)
const headerFragment = 8

// Fragments cuts an IPv6 packet without extension headers into fragments of at most mtu bytes, of which it needs 56, and
// hands each out; the slice is used again for the next. It reports false where it cannot, and hands out nothing.
func (p *Packet) Fragments(mtu int, id uint32, each func(fragment []byte)) bool {
	if !p.Src.Is6() || len(p.whole)-len(p.Payload) != header6 || mtu < header6+headerFragment+8 {
		return false
	}
	room := (mtu - header6 - headerFragment) &^ 7
	b := make([]byte, header6+headerFragment, mtu)
	copy(b, p.whole[:header6])
	b[6], b[header6] = extFragment, p.Proto
	binary.BigEndian.PutUint32(b[header6+4:], id)
	for at := 0; at < len(p.Payload); at += room {
		data := p.Payload[at:min(at+room, len(p.Payload))]
		offset := uint16(at)
		if at+len(data) < len(p.Payload) {
			offset |= 1
		}
		binary.BigEndian.PutUint16(b[header6+2:], offset)
		binary.BigEndian.PutUint16(b[4:], uint16(headerFragment+len(data)))
		each(append(b[:header6+headerFragment], data...))
	}
	return true
}
