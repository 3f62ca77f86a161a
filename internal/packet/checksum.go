package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// sum adds b to a running ones' complement sum (RFC 1071), eight bytes at a time: the sum is the same in any word size
// that is a multiple of 16 bits. All parts but the last must have an even length.
func sum(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var last uint64 // what is left, as if followed by zeros
	for i, c := range b {
		last |= uint64(c) << (56 - 8*i)
	}
	acc, carry = bits.Add64(acc, last, carry)
	acc, carry = bits.Add64(acc, carry, 0)
	return acc + carry
}

// fold brings a running sum to 16 bits. Over bytes that hold a right checksum it is 0xffff.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// pseudo is the sum of the pseudo-header that UDP's and ICMPv6's checksums begin with (RFC 768, RFC 8200 §8.1).
// src and dst are of the same family and not IPv4-mapped.
func pseudo(src, dst netip.Addr, proto uint8, size int) uint64 {
	acc := uint64(size) + uint64(proto)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return acc + uint64(binary.BigEndian.Uint32(s[:])) + uint64(binary.BigEndian.Uint32(d[:]))
	}
	s, d := src.As16(), dst.As16()
	return sum(sum(acc, s[:]), d[:])
}
