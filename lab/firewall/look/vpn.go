package look

import "encoding/binary"

// IKE reads a datagram as a message of the Internet Key Exchange, and returns which version: 1 (RFC 2409) or 2 (RFC 7296).
// Where a firewall would rather miss some than hit others, these are the bounds that nDPI sets (ipsec.c):
//
//	[4 zero bytes, if at port 4500] initiator's SPI 8 | responder's SPI 8 | next payload | version | exchange | flags |
//	number 4 | length 4
func IKE(b []byte) (version int, err error) {
	const header = 28
	if len(b) >= 4+header && binary.BigEndian.Uint32(b) == 0 { // the marker of RFC 3948
		b = b[4:]
	}
	if len(b) < header || binary.BigEndian.Uint64(b) == 0 || int64(binary.BigEndian.Uint32(b[24:])) != int64(len(b)) {
		return 0, ErrNone
	}
	next, exchange, flags := b[16], b[18], b[19]
	switch b[17] {
	case 0x20:
		if (next == 0 || next >= 33 && next <= 48 || next >= 128) && (exchange >= 34 && exchange <= 37 || exchange >= 240) &&
			flags&0xc7 == 0 {
			return 2, nil
		}
	case 0x10:
		if (next <= 13 || next >= 128) && (exchange <= 5 || exchange >= 31) && flags < 8 {
			return 1, nil
		}
	}
	return 0, ErrNone
}

// ESPinUDP reads a datagram as ESP in UDP (RFC 3948): an SPI that is not reserved, and a number.
func ESPinUDP(b []byte) (spi, number uint32, err error) {
	if len(b) < 8+16 {
		return 0, 0, ErrNone
	}
	if spi, number = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]); spi < 256 {
		return 0, 0, ErrNone
	}
	return spi, number, nil
}

// PPTP reads the beginning of a PPTP control connection (RFC 2637, section 2) and returns the control message's type:
//
//	length 2 | type 2 = 1 | cookie 1a2b3c4d | control message type 2 | …
func PPTP(b []byte) (control uint16, err error) {
	if len(b) < 12 || int(binary.BigEndian.Uint16(b)) != len(b) || binary.BigEndian.Uint16(b[2:]) != 1 ||
		binary.BigEndian.Uint32(b[4:]) != 0x1a2b3c4d {
		return 0, ErrNone
	}
	return binary.BigEndian.Uint16(b[8:]), nil
}

// Types of L2TP control messages (RFC 2661, section 4.4.1): what opens a tunnel.
const (
	L2TPOther = 0 // an acknowledgement
	L2TPStart = 1 // SCCRQ
	L2TPReply = 2 // SCCRP
)

// L2TP reads a datagram as a control message of L2TP version 2 (RFC 2661, section 3.1) and returns its type:
//
//	T L x x S x O P x x x x version 4 | length 2 | tunnel 2 | session 2 | Ns 2 | Nr 2 | AVP: M H … length 10 | vendor 2 | type 2 | …
func L2TP(b []byte) (control uint16, err error) {
	const header = 12
	if len(b) < header {
		return 0, ErrNone
	}
	flags := binary.BigEndian.Uint16(b)
	const always, never = 0xc800, 0x37f0 // T, L and S; O, P and what is reserved
	if flags&always != always || flags&never != 0 || flags&15 != 2 || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return 0, ErrNone
	}
	if b = b[header:]; len(b) == 0 {
		return L2TPOther, nil
	}
	if len(b) < 8 || binary.BigEndian.Uint16(b)&0x3ff != 8 || binary.BigEndian.Uint32(b[2:]) != 0 {
		return 0, ErrNone
	}
	return binary.BigEndian.Uint16(b[6:]), nil
}
