package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// random returns addresses of one family, ports and a payload.
func random(r *rand.Rand) (src, dst netip.AddrPort, payload []byte) {
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	addr := func(n int) netip.Addr { a, _ := netip.AddrFromSlice(bytesOf(n)); return a }
	n := 4 + 12*r.IntN(2)
	return at(addr(n), uint16(r.Uint32())), at(addr(n), uint16(r.Uint32())), bytesOf(r.IntN(1500))
}

// reference builds a packet with gopacket.
func reference(t testing.TB, src, dst netip.AddrPort, transport gopacket.SerializableLayer, payload []byte) []byte {
	t.Helper()
	proto := layers.IPProtocolUDP
	switch transport.(type) {
	case *layers.ICMPv4:
		proto = layers.IPProtocolICMPv4
	case *layers.ICMPv6:
		proto = layers.IPProtocolICMPv6
	}
	var network gopacket.SerializableLayer
	var nl gopacket.NetworkLayer
	if src.Addr().Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: proto,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		network, nl = ip, ip
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		network, nl = ip, ip
	}
	all := []gopacket.SerializableLayer{network, transport}
	switch l := transport.(type) {
	case *layers.UDP:
		_ = l.SetNetworkLayerForChecksum(nl)
	case *layers.ICMPv6:
		_ = l.SetNetworkLayerForChecksum(nl)
		id, seq := uint16(src.Port()), uint16(dst.Port())
		all = append(all, &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq})
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, append(all, gopacket.Payload(payload))...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// Ours and gopacket's bytes are the same for the same packet, and ours reads what gopacket wrote.
func TestBuildAgainstGopacket(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		src, dst, payload := random(r)
		udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		want := reference(t, src, dst, udp, payload)
		got := mustUDP(t, src, dst, string(payload))
		if !bytes.Equal(got, want) {
			t.Fatalf("udp %v to %v\n got %x\nwant %x", src, dst, got, want)
		}
		if p, err := Parse(want); err == nil {
			u, err := p.UDP()
			if err != nil || u.Src != src || u.Dst != dst || !bytes.Equal(u.Payload, payload) {
				t.Fatalf("udp %v to %v: read %+v, %v", src, dst, u, err)
			}
		} else {
			t.Fatal(err)
		}

		var echo gopacket.SerializableLayer = &layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: src.Port(), Seq: dst.Port()}
		if src.Addr().Is6() {
			echo = &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		}
		want = reference(t, src, dst, echo, payload)
		got, err := AppendEcho(nil, false, src.Addr(), dst.Addr(), src.Port(), dst.Port(), payload)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("echo %v to %v: %v\n got %x\nwant %x", src, dst, err, got, want)
		}
	}
}

// check compares a packet that ours accepts with what gopacket makes of it.
func check(t *testing.T, b []byte) {
	t.Helper()
	p, err := Parse(b)
	if err != nil {
		return
	}
	first := layers.LayerTypeIPv4
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	g := gopacket.NewPacket(b, first, gopacket.DecodeOptions{NoCopy: true})
	if ip, ok := g.NetworkLayer().(*layers.IPv4); ok && ip.SrcIP == nil {
		return // it refuses options of odd shape, which ours skips unread
	}
	switch ip := g.NetworkLayer().(type) {
	case *layers.IPv4:
		if !bytes.Equal(ip.SrcIP, p.Src.AsSlice()) || !bytes.Equal(ip.DstIP, p.Dst.AsSlice()) ||
			uint8(ip.Protocol) != p.Proto || ip.TTL != p.HopLimit || ip.TOS != p.TrafficClass ||
			!bytes.Equal(ip.Payload, p.Payload) {
			t.Fatalf("%x\nours %+v\nits %+v", b, p, ip)
		}
	case *layers.IPv6:
		if !bytes.Equal(ip.SrcIP, p.Src.AsSlice()) || !bytes.Equal(ip.DstIP, p.Dst.AsSlice()) ||
			ip.HopLimit != p.HopLimit || ip.TrafficClass != p.TrafficClass {
			t.Fatalf("%x\nours %+v\nits %+v", b, p, ip)
		}
	default:
		return // as above, for extension headers
	}
	if u, err := p.UDP(); err == nil {
		if l, ok := g.Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
			if uint16(l.SrcPort) != u.Src.Port() || uint16(l.DstPort) != u.Dst.Port() || !bytes.Equal(l.Payload, u.Payload) {
				t.Fatalf("%x\nours %+v\nits %+v", b, u, l)
			}
			if l.Checksum != 0 {
				_ = l.SetNetworkLayerForChecksum(g.NetworkLayer())
				if sum, ok := g.Layer(layers.LayerTypeUDP).(gopacket.LayerWithChecksum); ok {
					if err, r := sum.VerifyChecksum(); err == nil && !r.Valid {
						t.Fatalf("%x: gopacket finds the checksum wrong: %+v", b, r)
					}
				}
			}
		} else if g.ErrorLayer() == nil {
			t.Fatalf("%x: gopacket finds no udp", b)
		}
		back, err := AppendUDP(nil, u.Src, u.Dst, u.Payload)
		if err != nil {
			t.Fatalf("%x: not built again: %v", b, err)
		}
		p2, err := Parse(back)
		if err != nil {
			t.Fatal(err)
		}
		if u2, err := p2.UDP(); err != nil || u2.Src != u.Src || u2.Dst != u.Dst || !bytes.Equal(u2.Payload, u.Payload) {
			t.Fatalf("%x: built again as %+v, %v", b, u2, err)
		}
	}
	if m, err := p.ICMP(); err == nil {
		if l, ok := g.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && (m.Kind == EchoRequest || m.Kind == EchoReply) {
			if l.Id != m.ID || l.Seq != m.Seq || !bytes.Equal(l.Payload, m.Body) {
				t.Fatalf("%x\nours %+v\nits %+v", b, m, l)
			}
		}
		if q, err := m.Quoted(); err == nil && q.Src.Addr().Is6() != p.Src.Is6() {
			t.Fatalf("%x: quoted %+v", b, q)
		}
	}
	for _, build := range []func() ([]byte, bool){
		func() ([]byte, bool) { return AppendUnreachable(nil, p.Dst, NoPort, &p) },
		func() ([]byte, bool) { return AppendTooBig(nil, p.Dst, 1400, &p) },
	} {
		if e, ok := build(); ok {
			m := mustICMP(t, e)
			if !bytes.HasPrefix(b, m.Body) {
				t.Fatalf("%x: error quotes %x", b, m.Body)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	u4 := mustUDP(f, at(a4, 4000), at(b4, 53), "question")
	u6 := mustUDP(f, at(a6, 4000), at(b6, 53), "question")
	e4, _ := AppendEcho(nil, false, a4, b4, 1, 2, []byte("x"))
	e6, _ := AppendEcho(nil, true, a6, b6, 1, 2, []byte("x"))
	p4, p6 := mustParse(f, u4), mustParse(f, u6)
	d4, _ := AppendUnreachable(nil, b4, NoPort, &p4)
	d6, _ := AppendTooBig(nil, b6, 1280, &p6)
	for _, b := range [][]byte{nil, u4, u6, e4, e6, d4, d6,
		with6(u6, extHopByHop, []byte{0, 0, 5, 2, 0, 0, 1, 0}), with6(u6, extFragment, make([]byte, 8))} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, b)
		// A fuzzer finds no checksums: mend the header's, and the transport's where it is at hand.
		b = bytes.Clone(b)
		if len(b) >= header4 && b[0]>>4 == 4 && len(b) <= maxLength {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			check(t, mend(fix4(b)))
		}
		if len(b) >= header6 && b[0]>>4 == 6 && len(b)-header6 <= maxLength {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-header6))
			check(t, mend(b))
		}
	})
}

// mend gives the UDP or ICMP message in b a right length and checksum.
func mend(b []byte) []byte {
	p, err := Parse(b)
	if err != nil || len(p.Payload) < 8 {
		return b
	}
	m := p.Payload
	switch {
	case p.Proto == ProtoUDP:
		binary.BigEndian.PutUint16(m[4:], uint16(len(m)))
		m[6], m[7] = 0, 0
		sumUDP(m, p.Src, p.Dst)
	case p.Proto == ProtoICMP && p.Src.Is4():
		m[2], m[3] = 0, 0
		binary.BigEndian.PutUint16(m[2:], ^fold(sum(0, m)))
	case p.Proto == ProtoICMPv6 && p.Src.Is6():
		m[2], m[3] = 0, 0
		binary.BigEndian.PutUint16(m[2:], ^fold(sum(pseudo(p.Src, p.Dst, ProtoICMPv6, len(m)), m)))
	}
	return b
}
