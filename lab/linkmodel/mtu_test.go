package linkmodel

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	macA, macB = []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	ip4A, ip4B = []byte{192, 0, 2, 1}, []byte{192, 0, 2, 2}
	ip6A, ip6B = append([]byte{0x20, 1, 0x0d, 0xb8}, make([]byte, 12)...), append([]byte{0x20, 1, 0x0d, 0xb8}, bytes.Repeat([]byte{1}, 12)...)
)

func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(b.Bytes())
}

// udp4 is a datagram whose payload says where each byte of it belongs.
func udp4(t testing.TB, payload int, flags layers.IPv4Flag) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: layers.IPProtocolUDP, SrcIP: ip4A, DstIP: ip4B, Flags: flags}
	udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	udp.SetNetworkLayerForChecksum(ip)
	return build(t, &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: layers.EthernetTypeIPv4}, ip, udp,
		gopacket.Payload(counting(payload)))
}

func udp6(t testing.TB, payload int) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: ip6A, DstIP: ip6B}
	udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	udp.SetNetworkLayerForChecksum(ip)
	return build(t, &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: layers.EthernetTypeIPv6}, ip, udp,
		gopacket.Payload(counting(payload)))
}

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

func decode(t testing.TB, f []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	if p.ErrorLayer() != nil {
		t.Fatalf("not a packet: %v", p.ErrorLayer().Error())
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		icmp.SetNetworkLayerForChecksum(p.NetworkLayer())
	}
	if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) > 0 {
		t.Fatalf("checksums: %v %v", wrong, err)
	}
	return p
}

func TestMTUFragments(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{MTU: 1280, Delay: time.Millisecond}, 1, 0)
	whole := udp4(t, 1472, 0)
	l.push(0, whole)
	l.push(0, udp4(t, 1280-28, 0)) // fits to the byte
	var payload []byte
	for i, more := range []bool{true, false} {
		p, ok := l.pop(math.MaxInt64)
		if !ok || len(p.data) > 1280+minFrame {
			t.Fatalf("fragment %d: %v, %d bytes", i, ok, len(p.data))
		}
		ip := gopacket.NewPacket(p.data, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if checksum(p.data[14:34]) != 0 || int(ip.FragOffset)*8 != len(payload) || (ip.Flags&layers.IPv4MoreFragments != 0) != more || ip.Id != 7 {
			t.Fatalf("fragment %d: %+v", i, ip)
		}
		payload = append(payload, p.data[34:]...)
	}
	if !bytes.Equal(payload, whole[34:]) {
		t.Error("the fragments are not the packet")
	}
	if p, ok := l.pop(math.MaxInt64); !ok || len(p.data) != 1280+minFrame {
		t.Error("a packet of the MTU did not pass whole")
	}
	if s := l.snapshot(); s.Fragments != 1 || s.TooLong != 0 || s.Answers != 0 {
		t.Errorf("stats %+v", s)
	}
	// A fragment is cut again, and only the last of all says that it is the last.
	parts, _ := narrow(1000, udp4(t, 1472, 0))
	again, _ := narrow(576, parts[0])
	if more := binary.BigEndian.Uint16(again[len(again)-1][14+fragHeader:]) & flagMF; more == 0 {
		t.Error("the last part of a first fragment is the last of all")
	}
}

func TestMTUAnswersIPv4(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{MTU: 1280}, 1, 0)
	f := udp4(t, 1472, layers.IPv4DontFragment)
	l.push(5, f)
	if _, ok := l.pop(math.MaxInt64); ok {
		t.Fatal("the packet went on")
	}
	if s := l.snapshot(); s.TooLong != 1 || s.Answers != 1 || len(l.answers) != 1 || l.answers[0].at != 5 {
		t.Fatalf("stats %+v, answers %v", s, l.answers)
	}
	p := decode(t, l.answers[0].frame)
	ether := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	icmp := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !bytes.Equal(ether.DstMAC, macA) || !ip.DstIP.Equal(ip4A) || !ip.SrcIP.Equal(ip4B) {
		t.Errorf("answer goes from %v to %v %v", ip.SrcIP, ip.DstIP, ether.DstMAC)
	}
	if icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || icmp.Seq != 1280 || ip.Length > 576 {
		t.Errorf("answer is %v, mtu %d, %d bytes", icmp.TypeCode, icmp.Seq, ip.Length)
	}
	if !bytes.HasPrefix(f[14:], icmp.Payload) || len(icmp.Payload) < 28 {
		t.Error("the answer does not quote the packet")
	}
	for name, f := range map[string][]byte{
		"ICMP error": build(t, &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: layers.EthernetTypeIPv4},
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: ip4A, DstIP: ip4B, Flags: layers.IPv4DontFragment},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}, gopacket.Payload(counting(1400))),
		"multicast": append([]byte{1, 0, 0x5e, 0, 0, 1}, f[6:]...),
		"other":     append(append(slices.Clone(f[:12]), 0x88, 0xb5), f[14:]...),
	} {
		if parts, answer := narrow(1280, f); parts != nil || answer != nil {
			t.Errorf("%s: %d parts, answer %x", name, len(parts), answer)
		}
	}
}

func TestMTUAnswersIPv6(t *testing.T) {
	t.Parallel()
	f := udp6(t, 1452)
	parts, answer := narrow(1400, f)
	if parts != nil || answer == nil {
		t.Fatalf("%d parts, answer %x", len(parts), answer)
	}
	p := decode(t, answer)
	ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	icmp := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if !ip.DstIP.Equal(ip6A) || !ip.SrcIP.Equal(ip6B) || icmp.TypeCode != layers.CreateICMPv6TypeCode(2, 0) {
		t.Errorf("answer %v from %v to %v", icmp.TypeCode, ip.SrcIP, ip.DstIP)
	}
	if mtu := binary.BigEndian.Uint32(icmp.Payload); mtu != 1400 || len(answer) != 1280+14 {
		t.Errorf("mtu %d, answer of %d bytes", mtu, len(answer))
	}
	if _, again := narrow(1000, answer); again != nil {
		t.Error("an answer is answered")
	}
}

func FuzzNarrow(f *testing.F) {
	f.Add(uint16(576), udp4(f, 1472, 0))
	f.Add(uint16(1400), udp4(f, 1472, layers.IPv4DontFragment))
	f.Add(uint16(1280), udp6(f, 1452))
	f.Fuzz(func(t *testing.T, mtu uint16, frame []byte) {
		m := minMTU + int(mtu)%(maxMTU-minMTU+1)
		if len(frame) < minFrame || len(frame) > maxFrame {
			return
		}
		parts, answer := narrow(m, frame)
		for _, p := range append(parts, answer) {
			if len(p)-minFrame > max(m, 1280) || p != nil && len(p) < minFrame+20 {
				t.Errorf("%d bytes at an MTU of %d", len(p), m)
			}
		}
		if parts != nil && answer != nil {
			t.Error("carried on and answered")
		}
		if answer != nil {
			if parts, again := narrow(minMTU, answer); again != nil {
				t.Errorf("an answer is answered: %x %x", parts, again)
			}
		}
	})
}
