package packet

import (
	"encoding/binary"
	"net/netip"
)

// Next header values that are extension headers (IANA's IPv6 Extension Header Types).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extMobility    = 135
	extHIP         = 139
	extShim6       = 140
)

// maxExtensions is hop-by-hop and the two places destination options may stand in (RFC 8200 §4.1).
const maxExtensions = 3

func parse6(b []byte) (Packet, error) {
	if len(b) < header6 {
		return Packet{}, errShort6
	}
	if int(binary.BigEndian.Uint16(b[4:])) != len(b)-header6 {
		return Packet{}, errPayload6 // a jumbogram says 0 and ends here too
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if src.Is4In6() || dst.Is4In6() {
		return Packet{}, errMapped
	}
	proto, rest := b[6], b[header6:]
	for n := 0; ; n++ {
		switch proto {
		case extHopByHop:
			if n > 0 {
				return Packet{}, errHopByHop
			}
		case extDestination:
			if n == maxExtensions {
				return Packet{}, errManyExt
			}
		case extRouting:
			return Packet{}, errRouting
		case extFragment:
			return Packet{}, errFragment6
		case extAuth, extMobility, extHIP, extShim6:
			return Packet{}, errUnknownExt
		default:
			return Packet{
				Src:          src,
				Dst:          dst,
				Proto:        proto,
				TrafficClass: b[0]<<4 | b[1]>>4,
				HopLimit:     b[7],
				DontFragment: true,
				Payload:      rest,
				whole:        b,
			}, nil
		}
		if len(rest) < 8 {
			return Packet{}, errExtLength
		}
		size := 8 + 8*int(rest[1])
		if size > len(rest) {
			return Packet{}, errExtLength
		}
		if err := checkOptions(rest[2:size]); err != nil {
			return Packet{}, err
		}
		proto, rest = rest[0], rest[size:]
	}
}

// checkOptions walks the options of a hop-by-hop or destination options header. An unknown one is skipped only if its
// two highest bits are zero (RFC 8200 §4.2); the jumbo payload option's are not.
func checkOptions(b []byte) error {
	for len(b) > 0 {
		if b[0] == 0 { // Pad1 has no length
			b = b[1:]
			continue
		}
		if b[0]&0xc0 != 0 {
			return errOption
		}
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return errOptionSize
		}
		b = b[2+int(b[1]):]
	}
	return nil
}
