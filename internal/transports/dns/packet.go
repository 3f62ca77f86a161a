package dns

import "encoding/binary"

// A packet is what one end of the ARQ says to the other in a query or an answer.
type packet struct {
	acked  bool // una-1 came just now
	window byte // how many segments there is room for
	una    uint16
	acks   []uint16
	ask    bool
	tell   bool
	pushes []push
}

type push struct {
	sn   uint16
	data []byte
}

const (
	packetHead = 3
	pushHead   = 3 // of the last one; others have a byte more
	ackLen     = 3
	probeLen   = 1
	maxWindow  = 127
	// maxSegment is what the longest message could hold; KCP copies what it is given into buffers of 1,500 bytes.
	maxSegment = maxMessage
)

// The kinds of segments.
const (
	segmentRest = iota << 6
	segmentPush
	segmentAck
	segmentProbe
)

// parsePacket reads a packet, whose bytes it keeps.
func parsePacket(b []byte) (p packet, ok bool) {
	if len(b) < packetHead {
		return p, false
	}
	p.acked, p.window, p.una = b[0]&0x80 != 0, b[0]&maxWindow, binary.BigEndian.Uint16(b[1:])
	for b = b[packetHead:]; len(b) > 0; {
		head, low := b[0]&0xc0, b[0]&0x3f
		if head == segmentProbe {
			if low == 0 || low > 3 {
				return p, false
			}
			p.ask, p.tell = p.ask || low&1 != 0, p.tell || low&2 != 0
			b = b[probeLen:]
			continue
		}
		if len(b) < 3 {
			return p, false
		}
		switch head {
		case segmentAck:
			if low != 0 {
				return p, false
			}
			p.acks = append(p.acks, binary.BigEndian.Uint16(b[1:]))
			b = b[ackLen:]
		case segmentRest:
			if low != 0 || len(b) == pushHead || len(b) > pushHead+maxSegment {
				return p, false
			}
			p.pushes = append(p.pushes, push{binary.BigEndian.Uint16(b[1:]), b[pushHead:]})
			b = nil
		case segmentPush:
			n := int(low)<<8 | int(b[1])
			if len(b) < pushHead+1+n || n == 0 || n > maxSegment {
				return p, false
			}
			p.pushes = append(p.pushes, push{binary.BigEndian.Uint16(b[2:]), b[pushHead+1 : pushHead+1+n]})
			b = b[pushHead+1+n:]
		}
	}
	return p, true
}

// append appends the packet. The last push says no length.
func (p *packet) append(b []byte) []byte {
	head := p.window & maxWindow
	if p.acked {
		head |= 0x80
	}
	b = binary.BigEndian.AppendUint16(append(b, head), p.una)
	for _, sn := range p.acks {
		b = binary.BigEndian.AppendUint16(append(b, segmentAck), sn)
	}
	if p.ask || p.tell {
		probe := byte(segmentProbe)
		if p.ask {
			probe |= 1
		}
		if p.tell {
			probe |= 2
		}
		b = append(b, probe)
	}
	for i, s := range p.pushes {
		if i == len(p.pushes)-1 {
			b = append(b, segmentRest)
		} else {
			b = append(b, segmentPush|byte(len(s.data)>>8), byte(len(s.data)))
		}
		b = append(binary.BigEndian.AppendUint16(b, s.sn), s.data...)
	}
	return b
}
