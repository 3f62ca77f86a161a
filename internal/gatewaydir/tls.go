package gatewaydir

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// TLSKeys are the gateway's TLS key and the one to come.
type TLSKeys struct {
	key     *ecdsa.PrivateKey
	nextKey *ecdsa.PrivateKey
	Pin     [sha256.Size]byte // of key's SubjectPublicKeyInfo, as access keys carry it
	NextPin [sha256.Size]byte // of the next key's
	// NextSince is when the next key was made, as its file says: access keys printed since then name it.
	NextSince time.Time
}

const (
	tlsFile     = "tls.key"
	nextTLSFile = "tls-next.key"
	// afterTLSFile exists only while RotateTLSKey is at work, or was interrupted.
	afterTLSFile = "tls-after.key"
	tlsKind      = "godwit TLS key v1"
	// scalarSize is the size of a P-256 private key: public web servers' most usual kind.
	scalarSize = 32
)

// initTLSKeys makes the keys that are not there.
func initTLSKeys(dir string) error {
	return errors.Join(makeKey(dir, tlsFile, tlsKind), makeKey(dir, nextTLSFile, tlsKind))
}

// makeKey makes a P-256 key unless it is there.
func makeKey(dir, file, kind string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	b, err := key.Bytes()
	if err != nil {
		return err
	}
	if err := secretfile.Create(keyPath(dir, file), kind, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the key %s: %w", file, err)
	}
	return nil
}

func keyPath(dir, file string) string { return filepath.Join(dir, "keys", file) }

func loadTLSKeys(dir string) (t TLSKeys, err error) {
	if t.key, t.Pin, err = loadTLSKey(keyPath(dir, tlsFile)); err != nil {
		return t, err
	}
	next := keyPath(dir, nextTLSFile)
	if t.nextKey, t.NextPin, err = loadTLSKey(next); err != nil {
		return t, err
	}
	if t.NextPin == t.Pin { // a rotation was interrupted; the next one finishes it
		next = keyPath(dir, afterTLSFile)
		if t.nextKey, t.NextPin, err = loadTLSKey(next); err != nil {
			return t, err
		}
	}
	if info, err := os.Stat(next); err == nil {
		t.NextSince = info.ModTime()
	}
	return t, nil
}

// tickets is what the website's session tickets follow from.
func (t TLSKeys) tickets() [sha256.Size]byte { return t.derive("godwit session tickets v1") }

// derive makes a secret that follows from the key, so that it is good as long as that is, and nothing more has to be kept.
func (t TLSKeys) derive(what string) (secret [sha256.Size]byte) {
	b, err := t.key.Bytes()
	if err != nil {
		panic(err) // it was read from such bytes
	}
	derived, err := hkdf.Key(sha256.New, b, nil, what, len(secret))
	if err != nil {
		panic(err) // for other lengths only
	}
	copy(secret[:], derived)
	return secret
}

// RotateTLSKey makes the next TLS key the gateway's, and a new next one. After a crash at any point the keys that are
// there are the old pair or the new pair, and calling it again finishes what was interrupted rather than rotating twice,
// which would cut off people; resumed says that it did. A gateway that runs has to be started again.
//
//	tls.key  tls-next.key  tls-after.key   means
//	   A          B              -         A, then B
//	   A          B              C         A, then B
//	   B          B              C         B, then C
//	   B          C              -         B, then C
func (d *Dir) RotateTLSKey() (resumed bool, err error) {
	tls, next, after := keyPath(d.Path, tlsFile), keyPath(d.Path, nextTLSFile), keyPath(d.Path, afterTLSFile)
	current, err := secretfile.Read(tls, tlsKind, scalarSize)
	if err != nil {
		return false, err
	}
	coming, err := secretfile.Read(next, tlsKind, scalarSize)
	if err != nil {
		return false, err
	}
	resumed = bytes.Equal(current, coming)
	if !resumed {
		if err := makeKey(d.Path, afterTLSFile, tlsKind); err != nil {
			return false, err
		}
		if err := secretfile.Write(tls, tlsKind, coming); err != nil {
			return false, fmt.Errorf("putting the next TLS key in place: %w", err)
		}
	}
	if err := os.Rename(after, next); err != nil {
		return resumed, fmt.Errorf("putting the new next TLS key in place: run it again: %w", err)
	}
	d.TLS, err = loadTLSKeys(d.Path)
	return resumed, err
}

func loadTLSKey(path string) (*ecdsa.PrivateKey, [sha256.Size]byte, error) {
	var pin [sha256.Size]byte
	key, err := loadKey(path, tlsKind)
	if err != nil {
		return nil, pin, fmt.Errorf("the gateway's TLS key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, pin, err
	}
	return key, sha256.Sum256(spki), nil
}

func loadKey(path, kind string) (*ecdsa.PrivateKey, error) {
	b, err := secretfile.Read(path, kind, scalarSize)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return key, nil
}
