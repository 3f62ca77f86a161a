package look

import (
	"crypto/x509"
	"encoding/binary"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

const (
	serverHello = 2
	certificate = 11
	// maxCertificates bounds the message that the server's certificates come in.
	maxCertificates = 64 << 10
)

// CertificateNames reads the names of the certificate that a server shows in TLS 1.2 and older, from the beginning of what
// it sends. In TLS 1.3 it is encrypted.
func CertificateNames(b []byte) ([]string, error) {
	var handshake []byte
	end := ErrMore
	for len(b) >= recordHeader {
		if b[0] != recordHandshake || b[1] != 3 || b[2] > 4 {
			end = ErrNone
			break
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		part := b[recordHeader:]
		handshake = append(handshake, part[:min(size, len(part))]...)
		if len(part) < size {
			break
		}
		b = part[size:]
	}
	if len(b) > 0 && b[0] != recordHandshake {
		end = ErrNone
	}
	for len(handshake) >= 4 {
		length := 4 + int(handshake[1])<<16 + int(handshake[2])<<8 + int(handshake[3])
		if length > maxCertificates {
			return nil, ErrNone
		}
		if len(handshake) < length {
			break
		}
		body := handshake[4:length]
		switch handshake[0] {
		case serverHello:
			if isTLS13(body) {
				return nil, ErrNone
			}
		case certificate:
			r := fieldReader{b: body}
			r.bytes(3) // the length of the list
			first := r.bytes(int(r.byte())<<16 | int(r.byte())<<8 | int(r.byte()))
			c, err := x509.ParseCertificate(first)
			if err != nil {
				return nil, ErrNone
			}
			if len(c.DNSNames) == 0 && c.Subject.CommonName != "" {
				return []string{c.Subject.CommonName}, nil
			}
			return c.DNSNames, nil
		default:
			return nil, ErrNone
		}
		handshake = handshake[length:]
	}
	return nil, end
}

// isTLS13 reports whether a ServerHello (RFC 8446, section 4.1.3) chooses a version by extension.
func isTLS13(body []byte) bool {
	r := fieldReader{b: body}
	r.bytes(2 + 32)
	r.bytes(int(r.byte())) // session id
	r.bytes(2 + 1 + 2)     // cipher suite, compression, length of the extensions
	for !r.bad && r.at < len(r.b) {
		kind := int(r.byte())<<8 | int(r.byte())
		r.bytes(int(r.byte())<<8 | int(r.byte()))
		if kind == clienthello.SupportedVersions {
			return true
		}
	}
	return false
}
