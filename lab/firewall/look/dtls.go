package look

import (
	"encoding/binary"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// Types of DTLS handshake messages (RFC 6347, section 4.3.2).
const (
	DTLSClientHello        = 1
	DTLSServerHello        = 2
	DTLSHelloVerifyRequest = 3
)

// DTLSHandshake is the handshake message that a datagram of DTLS 1.0 to 1.3 begins with, as far as the first record has it.
type DTLSHandshake struct {
	Type  byte
	Body  []byte
	Whole bool // no fragment of a message
}

// DTLS reads the first record of a datagram. It has to be a handshake message in the clear:
//
//	type 22 | version 2 | epoch 2 = 0 | number 6 | length 2 | message type | length 3 | number 2 | offset 3 | size 3 | body
func DTLS(b []byte) (DTLSHandshake, error) {
	const record, message = 13, 12
	if len(b) < record+message || b[0] != recordHandshake || b[1] != 0xfe || b[2] < 0xfc || b[3] != 0 || b[4] != 0 {
		return DTLSHandshake{}, ErrNone
	}
	size := int(binary.BigEndian.Uint16(b[11:]))
	if size < message || size > len(b)-record {
		return DTLSHandshake{}, ErrNone
	}
	m := b[record : record+size]
	length, offset, part := u24(m[1:]), u24(m[6:]), u24(m[9:])
	if part > len(m)-message || offset+part > length {
		return DTLSHandshake{}, ErrNone
	}
	return DTLSHandshake{Type: m[0], Body: m[message : message+part], Whole: offset == 0 && part == length}, nil
}

func u24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// ClientHello reads a whole ClientHello: it is TLS's, with a cookie after the session.
func (m DTLSHandshake) ClientHello() (*clienthello.Hello, error) {
	b := m.Body
	const session = 2 + 32
	if m.Type != DTLSClientHello || !m.Whole || len(b) <= session {
		return nil, ErrNone
	}
	cookie := session + 1 + int(b[session])
	if cookie >= len(b) || cookie+1+int(b[cookie]) > len(b) {
		return nil, ErrNone
	}
	rest := b[cookie+1+int(b[cookie]):]
	length := cookie + len(rest)
	message := append([]byte{clientHello, byte(length >> 16), byte(length >> 8), byte(length)}, b[:cookie]...)
	return handshakeHello(append(message, rest...), b[:2])
}

// ServerExtensions lists the extensions of a whole ServerHello.
func (m DTLSHandshake) ServerExtensions() (numbers []uint16) {
	b := m.Body
	const session = 2 + 32
	if m.Type != DTLSServerHello || !m.Whole || len(b) <= session {
		return nil
	}
	at := session + 1 + int(b[session]) + 3 + 2 // the cipher suite, the compression, and the list's length
	for at+4 <= len(b) {
		numbers = append(numbers, binary.BigEndian.Uint16(b[at:]))
		at += 4 + int(binary.BigEndian.Uint16(b[at+2:]))
	}
	return numbers
}
