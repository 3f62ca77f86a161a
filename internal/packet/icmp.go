package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	headerICMP = 8
	// maxError4 and maxError6 bound a whole ICMP error (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
	maxError4 = 576
	maxError6 = 1280
)

// Kind is what an ICMP message says, whichever the IP version.
type Kind uint8

// The kinds. Other is any that nothing here needs.
const (
	Other Kind = iota
	EchoRequest
	EchoReply
	Unreachable
	TooBig
	TimeExceeded
)

// Reason is why a destination is unreachable.
type Reason uint8

// The reasons.
const (
	NoRoute    Reason = iota // no way to its network
	Prohibited               // a policy forbids it
	NoHost                   // its network says it is not there
	NoPort                   // it is there, and nothing listens
)

// reasons is never written to.
var reasons = [...]struct{ code4, code6 uint8 }{NoRoute: {0, 0}, Prohibited: {13, 1}, NoHost: {1, 3}, NoPort: {3, 4}}

func kind4(typ, code uint8) Kind {
	switch typ {
	case 0:
		return EchoReply
	case 3:
		if code == 4 {
			return TooBig
		}
		return Unreachable
	case 8:
		return EchoRequest
	case 11:
		return TimeExceeded
	}
	return Other
}

func kind6(typ uint8) Kind {
	switch typ {
	case 1:
		return Unreachable
	case 2:
		return TooBig
	case 3:
		return TimeExceeded
	case 128:
		return EchoRequest
	case 129:
		return EchoReply
	}
	return Other
}

// ICMP is a parsed ICMP message of either version. Body slices into the packet.
type ICMP struct {
	Kind       Kind
	Type, Code uint8
	// ID and Seq belong to an echo.
	ID, Seq uint16
	// MTU belongs to TooBig: the longest packet that would have fitted. A router may say 0 over IPv4 (RFC 1191 §4).
	MTU uint32
	// Body is an echo's data, or the start of the packet that an error is about.
	Body []byte

	v6 bool
}

// ICMP reads p's payload as the ICMP of p's IP version.
func (p *Packet) ICMP() (ICMP, error) {
	v6 := p.Src.Is6()
	if v6 && p.Proto != ProtoICMPv6 || !v6 && p.Proto != ProtoICMP {
		return ICMP{}, errNotICMP
	}
	b := p.Payload
	if len(b) < headerICMP {
		return ICMP{}, errShortICMP
	}
	var acc uint64
	if v6 {
		acc = pseudo(p.Src, p.Dst, ProtoICMPv6, len(b))
	}
	if fold(sum(acc, b)) != 0xffff {
		return ICMP{}, errSumICMP
	}
	m := ICMP{Type: b[0], Code: b[1], Body: b[headerICMP:], v6: v6}
	if v6 {
		m.Kind = kind6(m.Type)
	} else {
		m.Kind = kind4(m.Type, m.Code)
	}
	switch m.Kind {
	case EchoRequest, EchoReply:
		m.ID, m.Seq = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	case TooBig:
		m.MTU = binary.BigEndian.Uint32(b[4:])
		if !v6 {
			m.MTU &= 0xffff // the upper half is unused (RFC 1191 §4)
		}
	}
	return m, nil
}

// Reason says why, for an Unreachable. A code that has no Reason of its own is NoRoute.
func (m *ICMP) Reason() Reason {
	for r, c := range reasons {
		if m.v6 && c.code6 == m.Code || !m.v6 && c.code4 == m.Code {
			return Reason(r)
		}
	}
	return NoRoute
}

// Quote is what an ICMP error tells of the packet it is about: as it was sent, so Src is who is told.
type Quote struct {
	Proto    uint8
	Src, Dst netip.AddrPort // ports are zero unless Proto is UDP or TCP; an echo request's identifier is in the place of Src's
}

// Quoted reads the packet that an error quotes. That is cut short, and anyone can make one up: a receiver must compare
// it with what it really sent.
func (m *ICMP) Quoted() (Quote, error) {
	switch m.Kind {
	case Unreachable, TooBig, TimeExceeded:
	default:
		return Quote{}, errNotError
	}
	b := m.Body
	src, dst, err := Addrs(b)
	if err != nil {
		return Quote{}, errShortQuote
	}
	if src.Is6() != m.v6 {
		return Quote{}, errQuoteFamily
	}
	q := Quote{Proto: b[9], Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0)}
	n := int(b[0]&0x0f) * 4
	if m.v6 {
		q.Proto, n = b[6], header6
	}
	switch q.Proto {
	case ProtoUDP, ProtoTCP:
	case ProtoICMP, ProtoICMPv6:
		if n >= header4 && len(b) >= n+headerICMP && (b[n] == 8 && !m.v6 || b[n] == 128 && m.v6) {
			q.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[n+4:]))
		}
		return q, nil
	default:
		return q, nil
	}
	if n < header4 || len(b) < n+4 {
		return Quote{}, errShortQuote
	}
	q.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[n:]))
	q.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[n+2:]))
	return q, nil
}

// AppendEcho appends an echo request (or, with reply, its answer) to b.
func AppendEcho(b []byte, reply bool, src, dst netip.Addr, id, seq uint16, data []byte) ([]byte, error) {
	var rest [4]byte
	binary.BigEndian.PutUint16(rest[:], id)
	binary.BigEndian.PutUint16(rest[2:], seq)
	types := [...]uint8{8, 128}
	if reply {
		types = [...]uint8{0, 129}
	}
	return appendICMP(b, src, dst, types, [2]uint8{}, rest, data)
}

// AppendUnreachable appends to b what from tells the sender of about: that it cannot be delivered. It reports false,
// and appends nothing, where no error may be sent: about another error, or to or about more than one host
// (RFC 1122 §3.2.2, RFC 4443 §2.4).
func AppendUnreachable(b []byte, from netip.Addr, why Reason, about *Packet) ([]byte, bool) {
	codes := reasons[why]
	return appendError(b, from, [2]uint8{3, 1}, [2]uint8{codes.code4, codes.code6}, [4]byte{}, about)
}

// AppendTooBig appends to b what from tells the sender of about: that packets may have mtu bytes at most. It reports
// false under the conditions of AppendUnreachable.
func AppendTooBig(b []byte, from netip.Addr, mtu int, about *Packet) ([]byte, bool) {
	var rest [4]byte
	binary.BigEndian.PutUint32(rest[:], uint32(min(max(mtu, 0), maxLength)))
	return appendError(b, from, [2]uint8{3, 2}, [2]uint8{4, 0}, rest, about)
}

// AppendTimeExceeded appends to b what from tells the sender of about: that its hop limit has run out. It reports false under the
// conditions of AppendUnreachable.
func AppendTimeExceeded(b []byte, from netip.Addr, about *Packet) ([]byte, bool) {
	return appendError(b, from, [2]uint8{11, 3}, [2]uint8{}, [4]byte{}, about)
}

func appendError(b []byte, from netip.Addr, types, codes [2]uint8, rest [4]byte, about *Packet) ([]byte, bool) {
	if !oneHost(about.Src) || !oneHost(about.Dst) || about.isICMPError() {
		return b, false
	}
	limit := maxError4 - header4 - headerICMP
	if about.Src.Is6() {
		limit = maxError6 - header6 - headerICMP
	}
	b, err := appendICMP(b, from, about.Src, types, codes, rest, about.whole[:min(limit, len(about.whole))])
	return b, err == nil
}

func oneHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// isICMPError takes every type that is not known to be a question or an answer for an error.
func (p *Packet) isICMPError() bool {
	switch {
	case p.Proto == ProtoICMPv6 && p.Src.Is6():
		return len(p.Payload) == 0 || p.Payload[0] < 128
	case p.Proto == ProtoICMP && p.Src.Is4():
		return len(p.Payload) == 0 || p.Payload[0] != 0 && p.Payload[0] != 8
	}
	return false
}

// appendICMP takes both versions' types and codes, IPv4's first.
func appendICMP(b []byte, src, dst netip.Addr, types, codes [2]uint8, rest [4]byte, body []byte) ([]byte, error) {
	src, dst = src.Unmap(), dst.Unmap()
	at, size, v, proto := len(b), headerICMP+len(body), 0, uint8(ProtoICMP)
	if dst.Is6() {
		v, proto = 1, ProtoICMPv6
	}
	b, err := appendHeader(b, src, dst, proto, size)
	if err != nil {
		return b[:at], err
	}
	b = append(b, types[v], codes[v], 0, 0)
	b = append(b, rest[:]...)
	b = append(b, body...)
	var acc uint64
	if dst.Is6() {
		acc = pseudo(src, dst, proto, size)
	}
	m := b[len(b)-size:]
	binary.BigEndian.PutUint16(m[2:], ^fold(sum(acc, m)))
	return b, nil
}
