package gatewaydir

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"time"

	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// TLSKeys are the gateway's TLS key and the one to come.
type TLSKeys struct {
	key     *ecdsa.PrivateKey
	Pin     [sha256.Size]byte // of key's SubjectPublicKeyInfo, as access keys carry it
	NextPin [sha256.Size]byte // of the next key's
}

const (
	tlsFile     = "tls.key"
	nextTLSFile = "tls-next.key"
	tlsKind     = "godwit TLS key v1"
	// scalarSize is the size of a P-256 private key: public web servers' most usual kind.
	scalarSize = 32
)

// initTLSKeys makes the keys that are not there.
func initTLSKeys(dir string) error {
	for _, file := range []string{tlsFile, nextTLSFile} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		b, err := key.Bytes()
		if err != nil {
			return err
		}
		if err := secretfile.Create(filepath.Join(dir, "keys", file), tlsKind, b); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making the gateway's TLS key: %w", err)
		}
	}
	return nil
}

func loadTLSKeys(dir string) (t TLSKeys, err error) {
	if t.key, t.Pin, err = loadTLSKey(filepath.Join(dir, "keys", tlsFile)); err != nil {
		return t, err
	}
	_, t.NextPin, err = loadTLSKey(filepath.Join(dir, "keys", nextTLSFile))
	return t, err
}

func loadTLSKey(path string) (*ecdsa.PrivateKey, [sha256.Size]byte, error) {
	var pin [sha256.Size]byte
	b, err := secretfile.Read(path, tlsKind, scalarSize)
	if err != nil {
		return nil, pin, fmt.Errorf("the gateway's TLS key %s: %w", path, err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
	if err != nil {
		return nil, pin, fmt.Errorf("the gateway's TLS key %s: %w", path, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, pin, err
	}
	return key, sha256.Sum256(spki), nil
}

// Certificate makes a certificate for the key, signed by itself: clients go by the pin.
func (t TLSKeys) Certificate(names []string) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(1, 0, 0), DNSNames: names,
	}
	if len(names) > 0 {
		template.Subject = pkix.Name{CommonName: names[0]}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, t.key.Public(), t.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the gateway's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: t.key}, nil
}
