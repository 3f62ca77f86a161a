package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Frame is an Ethernet frame that passed At after the capture began.
type Frame struct {
	At       time.Duration
	Outgoing bool // sent by the host, not received; a file does not say
	Data     []byte
	Length   int // as it passed; Data can be only its beginning
}

// The classic file format (draft-ietf-opsawg-pcap), in the byte order of nearly every machine:
//
//	magic u32, major u16, minor u16, reserved u64, longest frame u32, link type u32
//	then for each frame: seconds u32, nanoseconds u32, length here u32, length as it passed u32, data
const (
	magicNano  = 0xa1b23c4d
	magicMicro = 0xa1b2c3d4
	ethernet   = 1
	longest    = 1 << 16
)

// WritePcap writes frames as tcpdump does, with nanoseconds; time begins at zero. Frames after the first whole ones are
// cut to snap bytes; snap zero leaves all of them whole.
func WritePcap(w io.Writer, frames []Frame, whole, snap int) error {
	var b []byte
	for _, v := range []uint32{magicNano, 2 | 4<<16, 0, 0, longest, ethernet} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for i, f := range frames {
		data := f.Data
		if snap > 0 && i >= whole && len(data) > snap {
			data = data[:snap]
		}
		for _, v := range []int{int(f.At / time.Second), int(f.At % time.Second), len(data), f.Length} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		b = append(b, data...)
	}
	_, err := w.Write(b)
	return err
}

// ReadPcap reads a file of Ethernet frames; time begins with the first of them.
func ReadPcap(r io.Reader) (frames []Frame, err error) {
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("pcap: header: %w", err)
	}
	unit := time.Nanosecond
	switch binary.LittleEndian.Uint32(head[:]) {
	case magicNano:
	case magicMicro:
		unit = time.Microsecond
	default:
		return nil, errors.New("pcap: not a pcap file of this byte order")
	}
	if t := binary.LittleEndian.Uint32(head[20:]); t != ethernet {
		return nil, fmt.Errorf("pcap: link type %d, want Ethernet (%d)", t, ethernet)
	}
	var begin time.Duration
	for {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return frames, nil
		} else if err != nil {
			return nil, fmt.Errorf("pcap: frame %d: %w", len(frames)+1, err)
		}
		n := binary.LittleEndian.Uint32(head[8:])
		if n > longest {
			return nil, fmt.Errorf("pcap: frame %d: %d bytes are more than %d", len(frames)+1, n, longest)
		}
		f := Frame{Data: make([]byte, n), Length: int(binary.LittleEndian.Uint32(head[12:]))}
		if _, err := io.ReadFull(r, f.Data); err != nil {
			return nil, fmt.Errorf("pcap: frame %d: %w", len(frames)+1, err)
		}
		f.At = time.Duration(binary.LittleEndian.Uint32(head[:]))*time.Second +
			time.Duration(binary.LittleEndian.Uint32(head[4:]))*unit
		if len(frames) == 0 {
			begin = f.At
		}
		f.At -= begin
		frames = append(frames, f)
	}
}
