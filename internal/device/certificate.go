// Package device holds what a device is known by: its Ed25519 key, which never leaves its machine, and the certificate
// with which any gateway of the network knows the device without asking anyone.
//
// A certificate is exactly 162 bytes. Numbers are big endian, times are seconds since 1970 in UTC:
//
//	offset size
//	     0    1  version        1; another one is refused: update Godwit
//	     1    1  flags          0
//	     2    8  network        the network's id
//	    10    8  access key     the id of the access key the device enrolled with
//	    18    8  signer         first 8 bytes of SHA-256("godwit signer id v1" || control's public key)
//	    26   32  device         the device's public key
//	    58    8  issued         when it was signed; it is renewed RenewAfter later
//	    66    8  not before     somewhat before issued, as clocks differ
//	    74    8  not after      the first second at which it no longer counts
//	    82   16  limits         0
//	    98   64  signature      Ed25519 by control's key over "godwit device certificate v1" || 0x00 || bytes 0 to 97
//	   162
//
// Flags and limits are reserved. Whoever sets a bit there means something this version could not honour, so a
// certificate with any of them set is refused, and so is one that is shorter or longer. not before <= issued < not
// after. The device's id is not in it: it follows from the device's public key.
package device

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// CertificateSize is the length of every certificate, in bytes.
const CertificateSize = 162

const (
	// Lifetime is how long control makes a certificate count.
	Lifetime = 7 * 24 * time.Hour
	// RenewAfter is the age at which a device asks for a new one.
	RenewAfter = 2 * 24 * time.Hour
)

// The reasons to refuse a certificate.
var (
	ErrMalformed    = errors.New("not a device certificate: enrol again")
	ErrVersion      = errors.New("the device certificate is of a newer kind: update Godwit")
	ErrBadSignature = errors.New("the device certificate was not signed by this network's control: enrol again")
	ErrExpired      = errors.New("the device certificate has expired: renew it")
	ErrNotYetValid  = errors.New("the device certificate is not valid yet: set the clock of the machine that says so")
)

const (
	certificateVersion = 1
	bodySize           = CertificateSize - ed25519.SignatureSize
	// maxTime, the year 9999, is the last one that time's text forms can write.
	maxTime = 253402300799

	signedPrefix = "godwit device certificate v1\x00"
)

// Certificate says: control lets the holder of this device key use this network, under this access key, in this time.
// Its fields are only to be believed once Verify has returned nil, ErrExpired or ErrNotYetValid.
type Certificate struct {
	Network   [8]byte
	AccessKey [8]byte
	Device    [ed25519.PublicKeySize]byte
	// Whole seconds in UTC.
	Issued, NotBefore, NotAfter time.Time

	// As signed or parsed, not as filled in by whoever asks for a signature.
	encoded []byte
}

// Sign returns c's bytes, signed by control's Ed25519 key. Times lose what is below a second.
func (c *Certificate) Sign(signer crypto.Signer) ([]byte, error) {
	public, ok := signer.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("sign a device certificate: signer has a %T, want an Ed25519 key", signer.Public())
	}
	id := signerID(public)
	b := make([]byte, 0, CertificateSize)
	b = append(b, certificateVersion, 0)
	b = append(b, c.Network[:]...)
	b = append(b, c.AccessKey[:]...)
	b = append(b, id[:]...)
	b = append(b, c.Device[:]...)
	for _, t := range []time.Time{c.Issued, c.NotBefore, c.NotAfter} {
		b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
	}
	b = append(b, make([]byte, 16)...)
	signature, err := signer.Sign(nil, signedMessage(b), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign a device certificate: %w", err)
	}
	b = append(b, signature...)
	if _, err := ParseCertificate(b); err != nil { // what nobody would accept is not handed out
		return nil, fmt.Errorf("sign a device certificate: %w", err)
	}
	return b, nil
}

// ParseCertificate reads a certificate without believing it: see Verify. It does not keep b.
func ParseCertificate(b []byte) (*Certificate, error) {
	if len(b) > 0 && b[0] != certificateVersion {
		return nil, fmt.Errorf("%w (version %d, this program knows %d)", ErrVersion, b[0], certificateVersion)
	}
	if len(b) != CertificateSize {
		return nil, fmt.Errorf("%w (%d bytes, want %d)", ErrMalformed, len(b), CertificateSize)
	}
	if b[1] != 0 || !allZero(b[82:98]) {
		return nil, fmt.Errorf("%w (reserved bits are set)", ErrMalformed)
	}
	c := &Certificate{
		Network:   [8]byte(b[2:10]),
		AccessKey: [8]byte(b[10:18]),
		Device:    [32]byte(b[26:58]),
		encoded:   bytes.Clone(b),
	}
	for i, t := range []*time.Time{&c.Issued, &c.NotBefore, &c.NotAfter} {
		seconds := binary.BigEndian.Uint64(b[58+8*i:])
		if seconds > maxTime {
			return nil, fmt.Errorf("%w (a time after the year 9999)", ErrMalformed)
		}
		*t = time.Unix(int64(seconds), 0).UTC()
	}
	if c.NotBefore.After(c.Issued) || !c.Issued.Before(c.NotAfter) {
		return nil, fmt.Errorf("%w (its times are out of order)", ErrMalformed)
	}
	return c, nil
}

// Verify checks the signature and then, only if that is good, the time: ErrExpired and ErrNotYetValid therefore mean
// that control did sign the certificate. It only accepts certificates that came from ParseCertificate.
func (c *Certificate) Verify(control ed25519.PublicKey, now time.Time) error {
	if len(c.encoded) != CertificateSize || len(control) != ed25519.PublicKeySize {
		return ErrBadSignature
	}
	// The signer id saves nobody from a forgery: it tells another network's certificate early and cheaply.
	if signerID(control) != [8]byte(c.encoded[18:26]) ||
		!ed25519.Verify(control, signedMessage(c.encoded[:bodySize]), c.encoded[bodySize:]) {
		return ErrBadSignature
	}
	switch {
	case now.Before(c.NotBefore):
		return fmt.Errorf("%w (from %s on)", ErrNotYetValid, c.NotBefore.Format(time.RFC3339))
	case !now.Before(c.NotAfter):
		return fmt.Errorf("%w (on %s)", ErrExpired, c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// ID names the device the certificate is for.
func (c *Certificate) ID() ID { return IDOf(c.Device[:]) }

// RenewAt is when the device should ask for the next certificate.
func (c *Certificate) RenewAt() time.Time { return c.Issued.Add(RenewAfter) }

func signerID(control ed25519.PublicKey) [8]byte {
	h := sha256.New()
	h.Write([]byte("godwit signer id v1"))
	h.Write(control)
	return [8]byte(h.Sum(nil)[:8])
}

func signedMessage(body []byte) []byte { return append([]byte(signedPrefix), body...) }

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
