package tun

import (
	"encoding/binary"
	"errors"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// Device is a TUN. One Read at a time; Write is safe for concurrent use, and both are with Close.
type Device interface {
	// Read reads one packet into b, which has room for maxFrame bytes; the Frame's Packet is part of it.
	Read(b []byte) (Frame, error)
	// Write gives the machine a packet. It does not keep it.
	Write(f Frame) error
	Close() error
}

// Frame is a packet as it passes a TUN: perhaps longer than any network carries, and with its checksum still to be made.
type Frame struct {
	Packet []byte
	// Partial says that the checksum at SumAt is that of the pseudo-header only, over what begins at SumFrom.
	Partial        bool
	SumFrom, SumAt int
	// SegmentSize is how many bytes of payload each of the TCP segments or datagrams has that this one stands for, but for the
	// last; zero if it is one.
	SegmentSize int
}

const (
	// vnetHeader is Linux's virtio_net_hdr: what a Frame says of its packet, in front of it.
	vnetHeader = 10
	maxPacket  = 65535
	maxFrame   = vnetHeader + maxPacket + 1 // one more than can be right

	vnetNeedsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetNoGSO         = 0
	vnetTCP4          = 1
	vnetTCP6          = 4
	vnetUDP           = 5
	vnetECN           = 0x80
)

var errFrame = errors.New("a packet of the TUN whose offload header makes no sense")

// parseVnet reads the header in front of a packet. What it says is checked against the packet.
func parseVnet(b []byte) (Frame, error) {
	if len(b) < vnetHeader+1 {
		return Frame{}, errFrame
	}
	order := binary.NativeEndian
	f := Frame{Packet: b[vnetHeader:]}
	if b[0]&vnetNeedsChecksum != 0 {
		f.Partial = true
		f.SumFrom = int(order.Uint16(b[6:]))
		f.SumAt = f.SumFrom + int(order.Uint16(b[8:]))
		if f.SumFrom < 20 || f.SumAt+2 > len(f.Packet) {
			return Frame{}, errFrame
		}
	}
	switch b[1] &^ vnetECN {
	case vnetNoGSO:
	case vnetTCP4, vnetTCP6, vnetUDP:
		f.SegmentSize = int(order.Uint16(b[4:]))
		if !f.Partial || f.SegmentSize == 0 || isRun(f) != (b[1]&^vnetECN == vnetUDP) {
			return Frame{}, errFrame
		}
	default:
		return Frame{}, errFrame
	}
	return f, nil
}

// putVnet writes the header for f, with headers bytes of IP and TCP in front of the payload.
func putVnet(b []byte, f Frame, headers int) {
	clear(b[:vnetHeader])
	if !f.Partial {
		return
	}
	order := binary.NativeEndian
	b[0] = vnetNeedsChecksum
	order.PutUint16(b[6:], uint16(f.SumFrom))
	order.PutUint16(b[8:], uint16(f.SumAt-f.SumFrom))
	if f.SegmentSize > 0 && len(f.Packet) > headers+f.SegmentSize {
		b[1] = vnetTCP4
		if f.Packet[0]>>4 == 6 {
			b[1] = vnetTCP6
		}
		order.PutUint16(b[2:], uint16(headers))
		order.PutUint16(b[4:], uint16(f.SegmentSize))
	}
}

// complete makes the checksum that was left to be made.
func (f *Frame) complete() {
	if !f.Partial {
		return
	}
	packet.FinishChecksum(f.Packet[f.SumFrom:], f.SumAt-f.SumFrom)
	f.Partial = false
}
