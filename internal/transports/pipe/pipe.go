// Package pipe is the one inner layer of every transport that is a pipe, that is bytes only: TLS 1.3 between client and
// gateway with the gateway's key pinned, then the knock. Whatever carries the bytes (a WebSocket in somebody else's TLS,
// plain HTTP, DNS, a relay) can read none of it.
//
//	client                                                  gateway
//	  TLS 1.3, X25519MLKEM768, the server's key pinned
//	  length (16) | knock         (one write with Finished) ──>  the knock opens the door, or TLS's farewell and the end
//	  what the link sends …                                 ──>
//	                                                        <──  what the link sends …
//
// TLS is crypto/tls as it is, without server name, ALPN or early data; the gateway shows a certificate of its own making
// with its pinned key, the least there can be. A client that keeps tickets resumes with them, with fresh key exchange.
// Whoever sends no TLS is sent nothing, not even an alert.
package pipe

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// keyExchange is the one there is.
var keyExchange = []tls.CurveID{tls.X25519MLKEM768}

// certificate is the least that shows a key: nobody looks at it but for that.
func certificate(key crypto.Signer) (tls.Certificate, [sha256.Size]byte, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, [sha256.Size]byte{}, fmt.Errorf("making the inner certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, [sha256.Size]byte{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, transport.KeyHash(leaf), nil
}

// appendKnock draws the knock on the wire.
func appendKnock(b, knock []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(knock))), knock...)
}

var errKnock = errors.New("a knock that is longer than one can be")

// readKnock reads it back.
func readKnock(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(head[:])
	if n > transport.MaxKnock {
		return nil, errKnock
	}
	knock := make([]byte, n)
	_, err := io.ReadFull(r, knock)
	return knock, err
}

// reason says what a handshake failed of, where that can be said without an address.
func reason(err error) error {
	var notTLS tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &notTLS):
		return transport.ErrNotTLS
	case errors.As(err, &alert):
		return transport.Reason(alert.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return transport.Reason("closed without an answer")
	}
	return err
}
