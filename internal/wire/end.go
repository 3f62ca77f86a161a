package wire

import (
	"encoding/binary"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// FIN ends the sender's direction of a stream after offset bytes.
//
//	+----------+------------+------------+
//	| seq (64) | stream (32)| offset (64)|
//	+----------+------------+------------+
//
// WINDOW, of the same shape, allows the far side to send a stream's bytes below offset. It never takes back: a smaller
// offset than an earlier one is ignored.

// Mark is a parsed FIN or WINDOW.
type Mark struct {
	Stream uint32
	Offset uint64
}

// AppendFin appends a FIN with sequence number 0.
func AppendFin(b []byte, m Mark) []byte { return appendMark(b, TypeFin, m) }

// AppendWindow appends a WINDOW with sequence number 0.
func AppendWindow(b []byte, m Mark) []byte { return appendMark(b, TypeWindow, m) }

func appendMark(b []byte, t Type, m Mark) []byte {
	at := len(b)
	b = beginNumbered(b, t)
	b = binary.BigEndian.AppendUint32(b, m.Stream)
	return end(binary.BigEndian.AppendUint64(b, m.Offset), at)
}

// ParseMark parses what follows the sequence number of a FIN or WINDOW.
func ParseMark(body []byte) (m Mark, err error) {
	if err := need(body, 12, "FIN or WINDOW"); err != nil {
		return m, err
	}
	m.Stream = binary.BigEndian.Uint32(body)
	m.Offset = binary.BigEndian.Uint64(body[4:])
	if m.Offset > 1<<62 {
		return m, malformed("FIN or WINDOW offset %d is out of range", m.Offset)
	}
	return m, nil
}

// RESET ends a stream both ways at once; bytes not yet delivered are dropped.
//
//	+----------+------------+-----------+
//	| seq (64) | stream (32)| code (16) |
//	+----------+------------+-----------+

// Reset is a parsed RESET.
type Reset struct {
	Stream uint32
	Code   flow.Code
}

// AppendReset appends r with sequence number 0.
func AppendReset(b []byte, r Reset) []byte {
	at := len(b)
	b = beginNumbered(b, TypeReset)
	b = binary.BigEndian.AppendUint32(b, r.Stream)
	return end(binary.BigEndian.AppendUint16(b, uint16(r.Code)), at)
}

// ParseReset parses what follows the sequence number.
func ParseReset(body []byte) (r Reset, err error) {
	if err := need(body, 6, "RESET"); err != nil {
		return r, err
	}
	r.Stream = binary.BigEndian.Uint32(body)
	r.Code = flow.Code(binary.BigEndian.Uint16(body[4:]))
	return r, nil
}

// CLOSE ends the session and every stream in it.
//
//	+----------+-----------+
//	| seq (64) | code (16) |
//	+----------+-----------+

// AppendClose appends a CLOSE with sequence number 0.
func AppendClose(b []byte, code flow.Code) []byte {
	at := len(b)
	b = beginNumbered(b, TypeClose)
	return end(binary.BigEndian.AppendUint16(b, uint16(code)), at)
}

// ParseClose parses what follows the sequence number.
func ParseClose(body []byte) (flow.Code, error) {
	if err := need(body, 2, "CLOSE"); err != nil {
		return 0, err
	}
	return flow.Code(binary.BigEndian.Uint16(body)), nil
}

// VOID fills a sequence number whose frame no longer matters: a chunk of a stream that was reset, not yet acknowledged
// when its link died.
//
//	+----------+
//	| seq (64) |
//	+----------+

// AppendVoid appends a VOID with sequence number 0.
func AppendVoid(b []byte) []byte { return end(beginNumbered(b, TypeVoid), len(b)) }
