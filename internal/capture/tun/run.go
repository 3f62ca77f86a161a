package tun

import (
	"encoding/binary"

	"github.com/godwit-vpn/godwit/internal/packet"
)

const udpHeader = 8

// isRun reports whether a frame stands for a run of datagrams, which a program has sent by one call (UDP_SEGMENT, udp(7)), as
// QUIC's do.
func isRun(f Frame) bool {
	if f.SegmentSize == 0 || len(f.Packet) == 0 {
		return false
	}
	switch f.Packet[0] >> 4 {
	case 4:
		return len(f.Packet) >= 20 && f.Packet[9] == packet.ProtoUDP
	case 6:
		return len(f.Packet) >= 40 && f.Packet[6] == packet.ProtoUDP
	}
	return false
}

// cutRun hands out the datagrams of a run one by one, each made in room, as the kernel would have cut them. What makes no
// sense is dropped.
func cutRun(f Frame, room []byte, each func(b []byte)) {
	at := 40
	if f.Packet[0]>>4 == 4 {
		at = int(f.Packet[0]&15) * 4
	}
	headers := at + udpHeader
	if at < 20 || f.SumFrom != at || f.SumAt != at+6 || len(f.Packet) < headers {
		return
	}
	head, payload := f.Packet[:headers], f.Packet[headers:]
	whole := uint64(udpHeader + len(payload)) // of which the checksum of the pseudo-header is
	for i := uint16(0); len(payload) > 0; i++ {
		n := min(f.SegmentSize, len(payload))
		b := append(append(room[:0], head...), payload[:n]...)
		payload = payload[n:]
		if at == 40 && b[0]>>4 == 6 {
			binary.BigEndian.PutUint16(b[4:], uint16(udpHeader+n))
		} else {
			length, id := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
			binary.BigEndian.PutUint16(b[2:], uint16(headers+n))
			binary.BigEndian.PutUint16(b[4:], id+i)
			packet.AdjustChecksum(b[10:], uint64(length)+uint64(id), uint64(headers+n)+uint64(id+i), true)
		}
		binary.BigEndian.PutUint16(b[at+4:], uint16(udpHeader+n))
		packet.AdjustChecksum(b[at+6:], whole, uint64(udpHeader+n), false)
		packet.FinishChecksum(b[at:], 6)
		each(b)
	}
}
