package proxy

import "net/netip"

// A datagram between application and proxy (RFC 1928 §7), both ways:
//
//	+---+---+------+- - - - -+- - - - -
//	| 0 | 0 | frag | address | payload
//	+---+---+------+- - - - -+- - - - -
//
// address is the destination on the way out and the source on the way back. Fragments, frag not 0, are dropped as the
// RFC allows: nobody sends them.

// maxDatagramHeader is the longest header we write: before an IPv6 address.
const maxDatagramHeader = 3 + 1 + 16 + 2

// parseDatagram returns where payload goes. The payload is part of b.
func parseDatagram(b []byte) (to address, payload []byte, err error) {
	if len(b) < 3 || b[2] != 0 {
		return address{}, nil, errSocks
	}
	to, payload, err = parseAddress(b[3:])
	if err == nil && to.port == 0 {
		err = errSocks
	}
	return to, payload, err
}

// appendDatagramHeader appends what stands before a payload from from.
func appendDatagramHeader(dst []byte, from netip.AddrPort) []byte {
	return appendAddress(append(dst, 0, 0, 0), from)
}
