// Package wire holds the frames that cross a link once its door is passed: one file each, parse and append side by
// side. Every frame begins with the same four bytes, all numbers are big-endian:
//
//	 0       8                              32
//	+--------+-------------------------------+----------------
//	|  type  |            length             |  body (length bytes) …
//	+--------+-------------------------------+----------------
//
// Frames come in three kinds. Link frames concern only the link they arrive on and are never repeated: PADDING, PING,
// PONG, ACK, PACKET, GOAWAY. Numbered frames begin their body with a 64-bit sequence number, counted per session and
// direction from 0; they are kept by the sender until acknowledged, may arrive on any link, in any order and more than
// once, and count once. Handshake frames open a link: HELLO, WELCOME, REFUSED.
//
// A receiver skips frames of unknown type below 0x20 or above 0x7f, acknowledges and skips unknown numbered ones (0x20
// to 0x7f), and ignores bytes that follow the fields it knows. A frame that is too short, too long, or holds a value its
// file forbids ends the link with ErrMalformed.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the version of this protocol, as HELLO and WELCOME carry it.
const Version = 1

// Type is a frame's first byte.
type Type uint8

// The frames. Numbers are never reused; PROTOCOL.md draws each.
const (
	TypePadding Type = 0x01
	TypePing    Type = 0x02
	TypePong    Type = 0x03
	TypeAck     Type = 0x04
	TypePacket  Type = 0x05
	TypeGoAway  Type = 0x06

	TypeHello   Type = 0x10
	TypeWelcome Type = 0x11
	TypeRefused Type = 0x12

	TypeData     Type = 0x20
	TypeOpen     Type = 0x21
	TypeOpened   Type = 0x22
	TypeFin      Type = 0x23
	TypeReset    Type = 0x24
	TypeWindow   Type = 0x25
	TypeResolve  Type = 0x26
	TypeResolved Type = 0x27
	TypeClose    Type = 0x28
	TypeVoid     Type = 0x29
)

// Numbered reports whether t's body begins with a sequence number.
func (t Type) Numbered() bool { return t >= 0x20 && t < 0x80 }

const (
	// HeaderLen is the length of type and length.
	HeaderLen = 4
	// SeqLen is the length of a numbered frame's sequence number, which follows the header.
	SeqLen = 8
	// MaxFrame is the longest frame but PACKET, header included: four full TLS records, so that a full chunk wastes none.
	MaxFrame = 4 * 16384
)

// ErrMalformed is matched by every parse error.
var ErrMalformed = errors.New("malformed frame")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// ParseHeader reads a frame's type and the length of its body. b must hold at least HeaderLen bytes.
func ParseHeader(b []byte) (t Type, body int, err error) {
	v := binary.BigEndian.Uint32(b)
	t, body = Type(v>>24), int(v&0xffffff)
	most := MaxFrame - HeaderLen
	if t == TypePacket {
		most = MaxPacket
	}
	if body > most {
		return 0, 0, malformed("type %#x is %d bytes long, at most %d are allowed", uint8(t), body, most)
	}
	return t, body, nil
}

// ReadFrame reads one frame whose body is at most most bytes long, and not one byte more than it.
func ReadFrame(r io.Reader, most int) (t Type, body []byte, err error) {
	var head [HeaderLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	t, n, err := ParseHeader(head[:])
	if err != nil {
		return 0, nil, err
	}
	if n > most {
		return 0, nil, malformed("type %#x is %d bytes long, at most %d are allowed here", uint8(t), n, most)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return t, body, err
}

// begin appends a header whose length end fills in.
func begin(b []byte, t Type) []byte { return append(b, byte(t), 0, 0, 0) }

// beginNumbered also leaves room for the sequence number, which PutSeq fills in when a link takes the frame.
func beginNumbered(b []byte, t Type) []byte {
	return append(b, byte(t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
}

// end writes the length of the frame that starts at b[at:].
func end(b []byte, at int) []byte {
	n := len(b) - at - HeaderLen
	b[at+1], b[at+2], b[at+3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

// PutSeq sets a numbered frame's sequence number.
func PutSeq(frame []byte, seq uint64) { binary.BigEndian.PutUint64(frame[HeaderLen:], seq) }

// ParseSeq splits a numbered frame's body into its sequence number and the rest.
func ParseSeq(body []byte) (seq uint64, rest []byte, err error) {
	if len(body) < SeqLen {
		return 0, nil, malformed("no sequence number in %d bytes", len(body))
	}
	seq = binary.BigEndian.Uint64(body)
	if seq >= 1<<62 {
		return 0, nil, malformed("sequence number %d is out of range", seq)
	}
	return seq, body[SeqLen:], nil
}

// need reports that what is shorter than n bytes.
func need(body []byte, n int, what string) error {
	if len(body) < n {
		return malformed("%s is %d bytes long, at least %d are needed", what, len(body), n)
	}
	return nil
}
