package certificate

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"time"
)

const (
	// selfLife is what people type after "openssl req -x509 -days".
	selfLife = 365 * 24 * time.Hour
	// selfRenew is when it is made again.
	selfRenew = 30 * 24 * time.Hour
)

// selfSigned is the self-signed certificate for names: the one that is kept if it is good for a while, else another one,
// which takes its place on disk. One that is new at every start would be seen to be.
func (m *Manager) selfSigned(names []string, now time.Time) (*tls.Certificate, error) {
	path := filepath.Join(m.cfg.Dir, "self-signed", fileName(names[0]))
	c, err := readChain(path, m.cfg.Key)
	if err == nil && c.Leaf.NotAfter.Sub(now) > selfRenew && sameNames(c.Leaf, names) {
		return c, nil
	}
	// Absent, damaged, for a key or names of the past, or at its end: it is ours to replace in any case.
	der, err := signSelf(m.cfg.Key, names, now)
	if err != nil {
		return nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	if err := writeChain(path, [][]byte{der}); err != nil { // it is no reason to serve nobody
		m.cfg.Log.Warn("the self-signed certificate cannot be kept: the next start makes another", "error", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: m.cfg.Key, Leaf: leaf}, nil
}

func sameNames(leaf *x509.Certificate, names []string) bool {
	dns, addrs := split(names)
	return slices.Equal(leaf.DNSNames, dns) && slices.EqualFunc(leaf.IPAddresses, addrs, net.IP.Equal)
}

var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// signSelf makes what this command makes, so that a gateway is one of the many servers whose operator typed it (a test
// compares the two):
//
//	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=NAME
//	    -addext subjectAltName=DNS:NAME
//
// Go's own certificates differ in the order of the extensions, the key's identifier, and the kind of string in the name.
func signSelf(key crypto.Signer, names []string, now time.Time) ([]byte, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, err
	}
	keyID := sha1.Sum(spki.Key.RightAlign()) // RFC 5280 §4.2.1.2 (1): a name, not a proof

	// 20 bytes, the first bit clear: positive.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, err
	}
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	subject, err := asn1.Marshal([]asn1.RawValue{set(attribute{oidCommonName, names[0]})})
	if err != nil {
		return nil, err
	}
	var sans []asn1.RawValue
	for _, n := range names {
		v := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(n)}
		if a := net.ParseIP(n); a != nil {
			if a4 := a.To4(); a4 != nil {
				a = a4
			}
			v.Tag, v.Bytes = 7, a
		}
		sans = append(sans, v)
	}
	var failed error
	extension := func(id asn1.ObjectIdentifier, critical bool, value any) pkix.Extension {
		b, err := asn1.Marshal(value)
		if err != nil {
			failed = err
		}
		return pkix.Extension{Id: id, Critical: critical, Value: b}
	}
	extensions := []pkix.Extension{
		extension(oidSubjectKeyID, false, keyID[:]),
		extension(oidAuthorityKeyID, false, struct {
			ID []byte `asn1:"tag:0"`
		}{keyID[:]}),
		extension(oidBasicConstraints, true, struct{ CA bool }{true}),
		extension(oidSubjectAltName, false, sans),
	}
	if failed != nil {
		return nil, failed
	}
	template := &x509.Certificate{SerialNumber: serial, RawSubject: subject, NotBefore: now, NotAfter: now.Add(selfLife),
		ExtraExtensions: extensions}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// set is an ASN.1 SET of one value.
func set(value any) asn1.RawValue {
	b, _ := asn1.Marshal(value) // an identifier and a string: it cannot fail
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: b}
}
