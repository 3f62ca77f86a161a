package wire

import "encoding/binary"

// DATA, a chunk: bytes of one stream.
//
//	+----------+-----------+------------+----------------
//	| seq (64) | stream(32)| offset(64) | bytes …
//	+----------+-----------+------------+----------------
//
// The bytes stand at offset in the stream, counted from 0. There is at least one.

const (
	// DataOverhead is what stands before a chunk's bytes, header included.
	DataOverhead = HeaderLen + SeqLen + 4 + 8
	// MaxChunk is the most bytes one DATA can carry.
	MaxChunk = MaxFrame - DataOverhead
)

// Data is a parsed DATA. Payload aliases the parsed bytes.
type Data struct {
	Stream  uint32
	Offset  uint64
	Payload []byte
}

// PutData writes the header of a DATA into frame[:DataOverhead], which the payload already follows. The sequence number
// is left to PutSeq.
func PutData(frame []byte, stream uint32, offset uint64) {
	n := len(frame) - HeaderLen
	frame[0], frame[1], frame[2], frame[3] = byte(TypeData), byte(n>>16), byte(n>>8), byte(n)
	binary.BigEndian.PutUint32(frame[12:], stream)
	binary.BigEndian.PutUint64(frame[16:], offset)
}

// ParseData parses what follows the sequence number.
func ParseData(body []byte) (d Data, err error) {
	if err := need(body, 13, "DATA"); err != nil {
		return d, err
	}
	d.Stream = binary.BigEndian.Uint32(body)
	d.Offset = binary.BigEndian.Uint64(body[4:])
	d.Payload = body[12:]
	if d.Offset > 1<<62 {
		return d, malformed("DATA offset %d is out of range", d.Offset)
	}
	return d, nil
}
