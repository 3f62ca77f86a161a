package firewall

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Protocol numbers of IP that rules ask for.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	GRE    = 47
	ESP    = 50
	AH     = 51
	ICMPv6 = 58
)

// Flags of TCP, as in its header.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Packet is an IP packet on its way through a box. Its slices are valid during the call that hands it out; who changes
// them changes nothing that is forwarded.
type Packet struct {
	// At is when it arrived, on the box's clock.
	At time.Duration
	// Outbound packets travel from inside to outside.
	Outbound bool
	// FromClient packets travel as the connection's first one did.
	FromClient bool

	Src, Dst netip.AddrPort // ports are zero where there are none
	Proto    uint8          // of IP; past the extension headers in IPv6
	TTL      uint8
	ID       uint16 // IPv4
	DF       bool   // IPv4
	Fragment bool   // a part of a packet: no ports, no payload

	// Of TCP.
	Flags    uint8
	Seq, Ack uint32
	Window   uint16
	Options  []byte // as on the wire; empty if the header has 20 bytes

	// Payload is what TCP or UDP carries, or what follows the IP header.
	Payload []byte
	// Size is the length of the IP packet.
	Size int

	ethernet [14]byte
	v6       bool
}

// Is reports whether all of the flags are set.
func (p *Packet) Is(flags uint8) bool { return p.Flags&flags == flags }

// V6 reports whether it is an IPv6 packet.
func (p *Packet) V6() bool { return p.v6 }

// parser takes frames apart. It is not safe for concurrent use.
type parser struct {
	eth     layers.Ethernet
	ip4     layers.IPv4
	ip6     layers.IPv6
	ext6    layers.IPv6ExtensionSkipper
	tcp     layers.TCP
	udp     layers.UDP
	dec     *gopacket.DecodingLayerParser
	decoded []gopacket.LayerType
}

func newParser() *parser {
	p := &parser{}
	p.dec = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &p.eth, &p.ip4, &p.ip6, &p.ext6, &p.tcp, &p.udp)
	p.dec.IgnoreUnsupported = true
	return p
}

// parse fills in p from a frame, and reports whether there is an IP packet in it that could be read to its ports.
func (r *parser) parse(frame []byte, p *Packet) bool {
	*p = Packet{}
	if len(frame) < len(p.ethernet) {
		return false
	}
	copy(p.ethernet[:], frame)
	// The error is that of the layer at which it stopped; those before are good.
	_ = r.dec.DecodeLayers(frame, &r.decoded)
	whole := false
	for _, t := range r.decoded {
		switch t {
		case layers.LayerTypeIPv4:
			p.Proto, p.TTL, p.ID, p.DF = uint8(r.ip4.Protocol), r.ip4.TTL, r.ip4.Id, r.ip4.Flags&layers.IPv4DontFragment != 0
			p.Fragment = r.ip4.FragOffset != 0 || r.ip4.Flags&layers.IPv4MoreFragments != 0
			p.Payload, p.Size = r.ip4.Payload, int(r.ip4.Length)
			p.Src, p.Dst = addr(r.ip4.SrcIP), addr(r.ip4.DstIP)
			whole = p.Fragment || p.Proto != TCP && p.Proto != UDP
		case layers.LayerTypeIPv6:
			p.v6 = true
			p.Proto, p.TTL, p.Payload, p.Size = uint8(r.ip6.NextHeader), r.ip6.HopLimit, r.ip6.Payload, 40+int(r.ip6.Length)
			p.Src, p.Dst = addr(r.ip6.SrcIP), addr(r.ip6.DstIP)
			whole = p.Proto != TCP && p.Proto != UDP
		case layers.LayerTypeIPv6Fragment:
			p.Fragment = true // what follows is the middle of something: IPv6 is not reassembled
			return true
		case layers.LayerTypeTCP:
			p.Proto = TCP
			p.Src = netip.AddrPortFrom(p.Src.Addr(), uint16(r.tcp.SrcPort))
			p.Dst = netip.AddrPortFrom(p.Dst.Addr(), uint16(r.tcp.DstPort))
			p.Flags, p.Seq, p.Ack, p.Window = r.tcp.Contents[13], r.tcp.Seq, r.tcp.Ack, r.tcp.Window
			p.Options, p.Payload = r.tcp.Contents[20:], r.tcp.Payload
			whole = true
		case layers.LayerTypeUDP:
			p.Proto = UDP
			p.Src = netip.AddrPortFrom(p.Src.Addr(), uint16(r.udp.SrcPort))
			p.Dst = netip.AddrPortFrom(p.Dst.Addr(), uint16(r.udp.DstPort))
			p.Payload = r.udp.Payload
			whole = true
		}
	}
	return whole
}

func addr(ip []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a, 0)
}

// Timestamp returns the value of TCP's timestamp option (RFC 7323), if there is one.
func (p *Packet) Timestamp() (value uint32, ok bool) {
	for o := p.Options; len(o) > 0; {
		switch {
		case o[0] == 0:
			return 0, false
		case o[0] == 1:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return 0, false
		case o[0] == 8 && o[1] == 10:
			return binary.BigEndian.Uint32(o[2:]), true
		}
		o = o[o[1]:]
	}
	return 0, false
}

// asFrame puts a reassembled packet into a frame.
func asFrame(ethernet [14]byte, whole *layers.IPv4) []byte {
	buf := gopacket.NewSerializeBuffer()
	whole.Flags, whole.FragOffset = 0, 0
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, whole, gopacket.Payload(whole.Payload)); err != nil {
		return nil
	}
	return append(ethernet[:], buf.Bytes()...)
}
