package scenario

import (
	"crypto/x509"
	"slices"
	"testing"
)

func TestChain(t *testing.T) {
	t.Parallel()
	c, err := siteCertificate(banned)
	if err != nil {
		t.Fatal(err)
	}
	var bytes int
	var parsed []*x509.Certificate
	for _, der := range c.Certificate {
		bytes += len(der)
		p, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, p)
	}
	if len(parsed) != 3 || bytes < 3000 || bytes > 5000 {
		t.Errorf("%d certificates of %d bytes, want 3 of 3 to 5 KB", len(parsed), bytes)
	}
	t.Logf("%d certificates, %d bytes", len(parsed), bytes)
	for i, p := range parsed[:2] {
		if err := p.CheckSignatureFrom(parsed[i+1]); err != nil {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	if parsed[2].CheckSignatureFrom(parsed[2]) == nil {
		t.Error("the root is sent")
	}
	if err := parsed[0].VerifyHostname(banned); err != nil {
		t.Error(err)
	}
	if again, err := siteCertificate(banned); err != nil || !slices.Equal(again.Certificate[0], c.Certificate[0]) {
		t.Error("a site has another certificate each time", err)
	}
}
