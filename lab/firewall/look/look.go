// Package look reads what a firewall reads in a connection's first bytes: a TLS ClientHello, alone or in QUIC's first
// packet, and the head of an HTTP request. It trusts nothing, keeps nothing, and reads what is there so far.
package look

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// ErrMore is returned while what was looked for may still come.
var ErrMore = errors.New("there may be more to come")

// ErrNone is returned when it is something else.
var ErrNone = errors.New("it is something else")

const (
	recordHeader    = 5
	recordHandshake = 22
	clientHello     = 1
	maxHello        = 16 << 10
)

// ClientHello reads what may be the beginning of a TLS connection. Without reassembly of records the hello must be whole in
// the first.
func ClientHello(b []byte, reassembleRecords bool) (*clienthello.Hello, error) {
	var message []byte
	version := []byte{3, 1}
	for records := 0; ; records++ {
		if len(b) >= 1 && b[0] != recordHandshake || len(b) >= 3 && (b[1] != 3 || b[2] > 4) {
			return nil, ErrNone
		}
		if len(b) < recordHeader {
			return nil, ErrMore
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		part := b[recordHeader:]
		if records == 0 {
			version = b[1:3]
			if len(part) > 0 && part[0] != clientHello || size == 0 {
				return nil, ErrNone
			}
		}
		whole := len(part) >= size
		message = append(message, part[:min(size, len(part))]...)
		if len(message) >= 4 {
			length := 4 + int(message[1])<<16 + int(message[2])<<8 + int(message[3])
			switch {
			case length > maxHello:
				return nil, ErrNone
			case len(message) >= length:
				return handshakeHello(message[:length], version)
			}
		}
		if !whole {
			return nil, ErrMore
		}
		if !reassembleRecords {
			return nil, ErrNone // whoever reads one record sees half a hello
		}
		b = part[size:]
	}
}

// handshakeHello reads a handshake message as if it had come in one record.
func handshakeHello(message, version []byte) (*clienthello.Hello, error) {
	record := append([]byte{recordHandshake, version[0], version[1]}, byte(len(message)>>8), byte(len(message)))
	h, err := clienthello.ParseHello(append(record, message...))
	if err != nil {
		return nil, ErrNone
	}
	return h, nil
}

// ServerName is the hello's SNI, empty if there is none.
func ServerName(h *clienthello.Hello) string {
	b, _ := h.Extension(clienthello.ServerName)
	if len(b) < 5 || b[2] != 0 || int(binary.BigEndian.Uint16(b[3:])) > len(b)-5 {
		return ""
	}
	return string(b[5 : 5+int(binary.BigEndian.Uint16(b[3:]))])
}

// Request is the head of an HTTP/1 request, as a firewall reads it: the method, the target, and the Host header.
type Request struct {
	Method, Target, Host string
	// Longest is the length of the longest name of a header before Host, or of all if there is none yet.
	Longest int
}

// HTTP reads what may be the beginning of an HTTP/1 request. It returns what there is of it with ErrMore.
func HTTP(b []byte) (Request, error) {
	line, rest, whole := bytes.Cut(b, []byte("\r\n"))
	method, after, ok := bytes.Cut(line, []byte(" "))
	if len(method) > 16 || len(method) == 0 && len(b) > 0 || bytes.ContainsFunc(method, notUpper) {
		return Request{}, ErrNone
	}
	if !ok {
		if whole {
			return Request{}, ErrNone
		}
		return Request{}, ErrMore
	}
	target, proto, _ := bytes.Cut(after, []byte(" "))
	r := Request{Method: string(method), Target: string(target)}
	if !whole {
		return r, ErrMore
	}
	if !bytes.HasPrefix(proto, []byte("HTTP/1.")) {
		return Request{}, ErrNone
	}
	for {
		var header []byte
		header, rest, whole = bytes.Cut(rest, []byte("\r\n"))
		if !whole {
			return r, ErrMore
		}
		if len(header) == 0 {
			return r, nil
		}
		name, value, _ := bytes.Cut(header, []byte(":"))
		switch {
		case r.Host != "": // the first counts
		case bytes.EqualFold(name, []byte("Host")):
			r.Host = string(bytes.TrimSpace(value))
		default:
			r.Longest = max(r.Longest, len(name))
		}
	}
}

func notUpper(r rune) bool { return r < 'A' || r > 'Z' }
