package wire

import (
	"encoding/binary"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// OPEN asks the far side for a stream.
//
//	+----------+------------+-----------+----------+---------+-------
//	| seq (64) | stream (32)| window(32)| port (16)| len (8) | host …
//	+----------+------------+-----------+----------+---------+-------
//
// stream is new; window is how many bytes the opener takes before it sends a WINDOW. host is a name in lower case
// without its trailing dot, or an address in text form.

// Open is a parsed OPEN.
type Open struct {
	Stream uint32
	Window uint32
	Target flow.Target
}

// AppendOpen appends o with sequence number 0.
func AppendOpen(b []byte, o Open) []byte {
	at := len(b)
	b = beginNumbered(b, TypeOpen)
	b = binary.BigEndian.AppendUint32(b, o.Stream)
	b = binary.BigEndian.AppendUint32(b, o.Window)
	b = binary.BigEndian.AppendUint16(b, o.Target.Port)
	b = append(b, byte(len(o.Target.Host)))
	return end(append(b, o.Target.Host...), at)
}

// ParseOpen parses what follows the sequence number. A target that is well-formed but unusable is not an error here:
// it is normalised by flow.NewTarget when it is dialled.
func ParseOpen(body []byte) (o Open, err error) {
	if err := need(body, 11, "OPEN"); err != nil {
		return o, err
	}
	o.Stream = binary.BigEndian.Uint32(body)
	o.Window = binary.BigEndian.Uint32(body[4:])
	o.Target.Port = binary.BigEndian.Uint16(body[8:])
	n := int(body[10])
	if n == 0 || n > flow.MaxHost || len(body) < 11+n {
		return o, malformed("OPEN has a host of %d bytes in %d", n, len(body)-11)
	}
	o.Target.Host = string(body[11 : 11+n])
	return o, nil
}

// OPENED answers an OPEN.
//
//	+----------+------------+-----------+-----------+
//	| seq (64) | stream (32)| code (16) | window(32)|
//	+----------+------------+-----------+-----------+
//
// code 0 means connected; any other is a flow.Code, and the stream has ended both ways.

// Opened is a parsed OPENED.
type Opened struct {
	Stream uint32
	Code   flow.Code
	Window uint32
}

// AppendOpened appends o with sequence number 0.
func AppendOpened(b []byte, o Opened) []byte {
	at := len(b)
	b = beginNumbered(b, TypeOpened)
	b = binary.BigEndian.AppendUint32(b, o.Stream)
	b = binary.BigEndian.AppendUint16(b, uint16(o.Code))
	return end(binary.BigEndian.AppendUint32(b, o.Window), at)
}

// ParseOpened parses what follows the sequence number.
func ParseOpened(body []byte) (o Opened, err error) {
	if err := need(body, 10, "OPENED"); err != nil {
		return o, err
	}
	o.Stream = binary.BigEndian.Uint32(body)
	o.Code = flow.Code(binary.BigEndian.Uint16(body[4:]))
	o.Window = binary.BigEndian.Uint32(body[6:])
	return o, nil
}
