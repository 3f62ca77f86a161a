package scenario

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// authority certifies the country's sites as the web's authorities do: a root that nobody sends, and two certificates
// under it that every server sends before its own. The models of TLS in TLS were made with such servers, whose flight of 3 to 5
// KB is most of what gives the inner handshake away.
type authority struct {
	chain  [][]byte // the issuer's certificate first; without the root
	issuer *x509.Certificate
	key    *rsa.PrivateKey

	mu    sync.Mutex
	sites map[string]tls.Certificate
}

// theAuthority is one for all countries of a program, as there is one web: RSA keys take long to make.
var theAuthority = sync.OnceValues(newAuthority)

const keyBits = 2048 // as most sites with RSA have

func newAuthority() (*authority, error) {
	a := &authority{sites: make(map[string]tls.Certificate)}
	for i, name := range []string{"Lab Root R1", "Lab Services Root", "Lab Server CA 1B2"} {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return nil, err
		}
		t := template(name, 10*365)
		t.IsCA, t.BasicConstraintsValid, t.MaxPathLen = true, true, 2-i
		t.MaxPathLenZero = t.MaxPathLen == 0
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		parent, signer := a.issuer, a.key
		if parent == nil {
			parent, signer = t, key
		}
		der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
		if err != nil {
			return nil, err
		}
		if a.issuer, err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
		if a.key = key; i > 0 {
			a.chain = append([][]byte{der}, a.chain...)
		}
	}
	return a, nil
}

// site is a site's certificate with its chain, the same whenever it is asked for.
func (a *authority) site(name string) (tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.sites[name]; ok {
		return c, nil
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := template(name, 90)
	t.DNSNames = []string{name, "www." + name}
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	stamps, err := timestamps()
	if err != nil {
		return tls.Certificate{}, err
	}
	t.ExtraExtensions = []pkix.Extension{stamps}
	der, err := x509.CreateCertificate(rand.Reader, t, a.issuer, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := tls.Certificate{Certificate: append([][]byte{der}, a.chain...), PrivateKey: key}
	a.sites[name] = c
	return c, nil
}

// template has what certificates of all kinds have.
func template(name string, days int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Lab Trust Services"}, Country: []string{"ZZ"}},
		NotBefore:    time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(0, 0, days),
		OCSPServer:            []string{"http://o.authority.example/s/a/server1b2"},
		IssuingCertificateURL: []string{"http://i.authority.example/server1b2.der"},
		CRLDistributionPoints: []string{"http://c.authority.example/server1b2/sRzPBUnYyWE.crl"},
		PolicyIdentifiers:     []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}}, // CA/Browser Forum: the domain was validated
	}
}

// timestamps is the extension with two signed certificate timestamps (RFC 6962), of the usual length; no log has signed them.
func timestamps() (pkix.Extension, error) {
	list := make([]byte, 242)
	if _, err := rand.Read(list); err != nil {
		return pkix.Extension{}, err
	}
	copy(list, []byte{0, 240, 0, 118, 0})
	copy(list[2+2+118:], []byte{0, 118, 0})
	value, err := asn1.Marshal(list)
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}, err
}

// siteCertificate is what a site of a country shows.
func siteCertificate(name string) (tls.Certificate, error) {
	a, err := theAuthority()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the country's authority: %w", err)
	}
	return a.site(name)
}
