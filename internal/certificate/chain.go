package certificate

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// ErrOtherKey is matched when a certificate is for another key than the gateway's.
var ErrOtherKey = errors.New("its first certificate is not for the gateway's TLS key: " +
	"'godwit gateway csr' makes a request that is")

// maxChain is far above any chain, and so is maxCertificates.
const (
	maxChain        = 1 << 20
	maxCertificates = 16
)

// readChain reads a file of PEM certificates, the one for key first.
func readChain(path string, key crypto.Signer) (*tls.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxChain))
	if err != nil {
		return nil, err
	}
	c, err := parseChain(b, key)
	if err != nil {
		return nil, fmt.Errorf("certificate file %q: %w", path, err)
	}
	return c, nil
}

// parseChain passes over what is no certificate, as a key that lies in the same file.
func parseChain(b []byte, key crypto.Signer) (*tls.Certificate, error) {
	c := &tls.Certificate{PrivateKey: key}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if len(c.Certificate) == maxCertificates {
			return nil, fmt.Errorf("it holds more than %d certificates", maxCertificates)
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("it holds no certificate: PEM is wanted")
	}
	var err error
	if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
		return nil, err
	}
	public, ok := c.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, ErrOtherKey
	}
	return c, nil
}

// writeChain writes certificates in PEM, whole or not at all.
func writeChain(path string, certificates [][]byte) error {
	var b bytes.Buffer
	for _, der := range certificates {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Request makes a certificate signing request in PEM, for an operator who has another way to a CA.
func Request(key crypto.Signer, names []string) ([]byte, error) {
	template := &x509.CertificateRequest{}
	template.DNSNames, template.IPAddresses = split(names)
	if len(template.DNSNames) > 0 {
		template.Subject = pkix.Name{CommonName: template.DNSNames[0]}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// split parts names into those of DNS and addresses.
func split(names []string) (dns []string, addrs []net.IP) {
	for _, n := range names {
		if a := net.ParseIP(n); a != nil {
			addrs = append(addrs, a)
		} else {
			dns = append(dns, n)
		}
	}
	return dns, addrs
}
