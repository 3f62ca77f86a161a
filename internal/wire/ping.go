package wire

import "encoding/binary"

// PING asks for a PONG with the same number on the same link.
//
//	+---------+--------------+
//	| id (64) | ignored (40) |
//	+---------+--------------+
//
// Both are as long as HTTP/2's PING: an idle link looks like an idle browser.

// AppendPing appends a PING.
func AppendPing(b []byte, id uint64) []byte { return appendPing(b, TypePing, id) }

// AppendPong appends a PONG.
func AppendPong(b []byte, id uint64) []byte { return appendPing(b, TypePong, id) }

func appendPing(b []byte, t Type, id uint64) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint64(begin(b, t), id)
	return end(append(b, 0, 0, 0, 0, 0), at)
}

// ParsePing parses the body of a PING or PONG.
func ParsePing(body []byte) (id uint64, err error) {
	if err := need(body, 8+5, "PING or PONG"); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(body), nil
}

// GOAWAY says that this link (replaced), or the whole session on it (draining), will be closed: new things go elsewhere.
//
//	+-------------+-------------+
//	| reason (16) | within (32) |
//	+-------------+-------------+
//
// within is in milliseconds.

// Reason is why a link goes away.
type Reason uint16

// The reasons.
const (
	GoAwayReplaced Reason = 1 // another link took its place
	GoAwayDraining Reason = 2 // the gateway is about to end: begin another session for what is new
)

// GoAway is a parsed GOAWAY.
type GoAway struct {
	Reason Reason
	Within uint32 // milliseconds
}

// AppendGoAway appends g.
func AppendGoAway(b []byte, g GoAway) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint16(begin(b, TypeGoAway), uint16(g.Reason))
	return end(binary.BigEndian.AppendUint32(b, g.Within), at)
}

// ParseGoAway parses a body.
func ParseGoAway(body []byte) (g GoAway, err error) {
	if err := need(body, 6, "GOAWAY"); err != nil {
		return g, err
	}
	g.Reason = Reason(binary.BigEndian.Uint16(body))
	g.Within = binary.BigEndian.Uint32(body[2:])
	return g, nil
}

// PACKET carries one IP packet, whole. It may be lost, and is when it would come late.
//
//	+-----------------
//	| IPv4 or IPv6 packet …
//	+-----------------

// MaxPacket is the longest packet a PACKET carries: the longest there is of IPv6, but for jumbograms.
const MaxPacket = 40 + 65535

// AppendPacket appends a PACKET; p is at most MaxPacket bytes.
func AppendPacket(b, p []byte) []byte {
	at := len(b)
	return end(append(begin(b, TypePacket), p...), at)
}

// AppendPadding appends a PADDING of n bytes in all, header included; n is at least HeaderLen. Its body is zeros and
// is ignored.
func AppendPadding(b []byte, n int) []byte {
	at := len(b)
	b = begin(b, TypePadding)
	b = append(b, make([]byte, n-HeaderLen)...)
	return end(b, at)
}
