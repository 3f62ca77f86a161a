package nft

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Match is a part of a rule: a condition, or something done. The same may be part of several.
type Match []expr.Any

// What is done with a packet, which ends the rule.
var (
	Accept     = Match{&expr.Verdict{Kind: expr.VerdictAccept}}
	Drop       = Match{&expr.Verdict{Kind: expr.VerdictDrop}}
	Masquerade = Match{&expr.Masq{}}
)

// SNAT gives packets another source.
func SNAT(a netip.Addr) Match {
	return Match{&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(familyOf(a)), RegAddrMin: 1}}
}

// End is one of a packet's two ends.
type End struct{ in4, in6, port uint32 } // offsets

// The ends.
var Src, Dst = End{in4: 12, in6: 8, port: 0}, End{in4: 16, in6: 24, port: 2}

// load reads the end's address.
func (e End) load(nf byte, register uint32) expr.Any {
	if nf == IPv4 {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: e.in4, Len: 4}
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: e.in6, Len: 16}
}

// Address holds of packets with an end in p.
func Address(which End, p netip.Prefix) Match {
	return append(Family(familyOf(p.Addr())), addressIs(expr.CmpOpEq, which, p)...)
}

// NotAddress holds of packets of p's family, which has been looked at before, with an end that is not in p.
func NotAddress(which End, p netip.Prefix) Match { return addressIs(expr.CmpOpNeq, which, p) }

func addressIs(op expr.CmpOp, which End, p netip.Prefix) Match {
	p = p.Masked()
	size := p.Addr().BitLen() / 8
	return Match{which.load(familyOf(p.Addr()), 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), size*8), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Addr().AsSlice()}}
}

func familyOf(a netip.Addr) byte {
	if a.Is6() {
		return IPv6
	}
	return IPv4
}

// Family holds of packets of a family.
func Family(nf byte) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{nf})}
}

// Protocol holds of packets of a protocol above IP.
func Protocol(p byte) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{p})}
}

// Port holds of packets, of a protocol that has ports, with an end at a port.
func Port(which End, n uint16) Match {
	return Match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: which.port, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, n))}
}

// ICMPType holds of packets of ICMP or ICMPv6 whose type is one of those.
func ICMPType(first, last byte) Match {
	return Match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{first}, ToData: []byte{last}}}
}

// HopLimit holds of packets of IPv6 with so many hops before them.
func HopLimit(n byte) Match {
	return Match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 7, Len: 1}, equal([]byte{n})}
}

// ARPTarget holds of questions of ARP for an address of IPv4, in a table arp.
func ARPTarget(a netip.Addr) Match {
	const target = 24 // RFC 826, on Ethernet
	return Match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: target, Len: 4}, equal(a.AsSlice())}
}

// UserBelow holds of packets of this machine's that are sent by a user with a number below n.
func UserBelow(n uint32) Match {
	return Match{&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint32(nil, n)}}
}

// Marked holds of packets with a mark.
func Marked(mark uint32) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(native32(mark))}
}

// SetMark marks packets.
func SetMark(mark uint32) Match {
	return Match{&expr.Immediate{Register: 1, Data: native32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}
}

// ConnectionMarked holds of packets of connections with a mark.
func ConnectionMarked(mark uint32) Match {
	return Match{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, equal(native32(mark))}
}

// SetConnectionMark marks packets' connections.
func SetConnectionMark(mark uint32) Match {
	return Match{&expr.Immediate{Register: 1, Data: native32(mark)},
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1}}
}

// States of a packet's connection.
const (
	New     = expr.CtStateBitNEW
	Answers = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
)

// Tracked holds of packets whose connection is in one of these states.
func Tracked(states uint32) Match {
	return Match{&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(states), Xor: native32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)}}
}

// FitSegments lowers the size that a TCP's SYN offers to what the ways there and back carry.
func FitSegments() Match {
	const syn, rst, tcpFlags, maxSegment = 2, 4, 13, 2
	return Match{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
		equal([]byte{syn}),
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: maxSegment, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
}

// IIF holds of packets that come in by an interface.
func IIF(name string) Match { return interfaceIs(expr.MetaKeyIIFNAME, expr.CmpOpEq, name) }

// NotIIF holds of packets that come in by another interface.
func NotIIF(name string) Match { return interfaceIs(expr.MetaKeyIIFNAME, expr.CmpOpNeq, name) }

// OIF holds of packets that go out by an interface.
func OIF(name string) Match { return interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpEq, name) }

func interfaceIs(key expr.MetaKey, op expr.CmpOp, name string) Match {
	return Match{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: padded(name)}}
}

func padded(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// IIFBegins holds of packets that come in by an interface whose name begins so.
func IIFBegins(name string) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal([]byte(name))}
}

// OIFBegins holds of packets that go out by an interface whose name begins so.
func OIFBegins(name string) Match {
	return Match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal([]byte(name))}
}

func equal(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }
