package wire

import "encoding/binary"

// ACK says which numbered frames have arrived, on whatever link.
//
//	+-----------+-----------+-------------+-----------+--------------------------------
//	| next (64) | echo (64) | delay (32)  | count (8) | count × ( from (64), to (64) )
//	+-----------+-----------+-------------+-----------+--------------------------------
//
// Every number below next has arrived, and so have from to to-1 of each range; ranges ascend, lie above next and do not
// touch. echo is the number plus one of the last numbered frame that came in on this link, 0 if none; delay is how many
// microseconds passed between that and this ACK, so that the far side can tell the link's round trip.

// MaxAckRanges is how many ranges an ACK carries at most. What does not fit is said later: nothing is forgotten, since
// the sender keeps what it was not told about.
const MaxAckRanges = 32

// Range is a half-open range of sequence numbers.
type Range struct{ From, To uint64 }

// Ack is a parsed ACK.
type Ack struct {
	Next   uint64
	Echo   uint64
	Delay  uint32 // microseconds
	Ranges []Range
}

// AppendAck appends a. It carries the first MaxAckRanges ranges.
func AppendAck(b []byte, a Ack) []byte {
	at := len(b)
	b = begin(b, TypeAck)
	b = binary.BigEndian.AppendUint64(b, a.Next)
	b = binary.BigEndian.AppendUint64(b, a.Echo)
	b = binary.BigEndian.AppendUint32(b, a.Delay)
	n := min(len(a.Ranges), MaxAckRanges)
	b = append(b, byte(n))
	for _, r := range a.Ranges[:n] {
		b = binary.BigEndian.AppendUint64(b, r.From)
		b = binary.BigEndian.AppendUint64(b, r.To)
	}
	return end(b, at)
}

// ParseAck parses a body. ranges is reused for the result's Ranges.
func ParseAck(body []byte, ranges []Range) (a Ack, err error) {
	if err := need(body, 21, "ACK"); err != nil {
		return a, err
	}
	a.Next = binary.BigEndian.Uint64(body)
	a.Echo = binary.BigEndian.Uint64(body[8:])
	a.Delay = binary.BigEndian.Uint32(body[16:])
	n := int(body[20])
	body = body[21:]
	if n > MaxAckRanges || len(body) < 16*n {
		return a, malformed("ACK says %d ranges in %d bytes", n, len(body))
	}
	a.Ranges = ranges[:0]
	last := a.Next
	for ; n > 0; n, body = n-1, body[16:] {
		r := Range{binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])}
		if r.From <= last || r.To <= r.From {
			return a, malformed("ACK range %d to %d does not ascend", r.From, r.To)
		}
		last = r.To
		a.Ranges = append(a.Ranges, r)
	}
	return a, nil
}
