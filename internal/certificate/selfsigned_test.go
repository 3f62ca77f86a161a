package certificate

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func selfConfig(t *testing.T, dir string, names ...string) Config {
	return Config{Key: newKey(t), Names: names, Dir: dir, Log: slog.New(slog.DiscardHandler)}
}

// shape is all of a certificate but what differs between any two of one kind.
func shape(c *x509.Certificate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "v%d %v %v %d-byte serial, %v\n", c.Version, c.SignatureAlgorithm, c.PublicKeyAlgorithm,
		len(c.SerialNumber.Bytes()), c.NotAfter.Sub(c.NotBefore))
	fmt.Fprintf(&b, "subject %x issuer %x\n", c.RawSubject, c.RawIssuer)
	for _, e := range c.Extensions {
		v := e.Value
		if e.Id.Equal(oidSubjectKeyID) || e.Id.Equal(oidAuthorityKeyID) {
			v = v[:len(v)-20]
		}
		fmt.Fprintf(&b, "%v %v %x\n", e.Id, e.Critical, v)
	}
	return b.String()
}

// A self-signed certificate is byte for byte of the shape that openssl makes.
func TestLikeOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	for _, tt := range []struct{ name, san string }{{"gw.example", "DNS:gw.example"}, {"192.0.2.1", "IP:192.0.2.1"},
		{"2001:db8::1", "IP:2001:db8::1"}} {
		dir := t.TempDir()
		file := filepath.Join(dir, "c.pem")
		cmd := exec.Command(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
			"-days", "365", "-subj", "/CN="+tt.name, "-addext", "subjectAltName="+tt.san,
			"-keyout", filepath.Join(dir, "k.pem"), "-out", file)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("openssl: %v\n%s", err, out)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		theirs, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		ours := mustNew(t, selfConfig(t, t.TempDir(), tt.name)).slots[0].self.Leaf
		// One serial in 256 begins with a zero byte, and is shorter.
		for len(ours.SerialNumber.Bytes()) < 20 {
			ours = mustNew(t, selfConfig(t, t.TempDir(), tt.name)).slots[0].self.Leaf
		}
		if len(theirs.SerialNumber.Bytes()) < 20 {
			theirs.SerialNumber = ours.SerialNumber
		}
		if got, want := shape(ours), shape(theirs); got != want {
			t.Errorf("ours:\n%s\nopenssl's:\n%s", got, want)
		}
		if err := ours.CheckSignatureFrom(ours); err != nil {
			t.Error(err)
		}
	}
}

// It is the same after a restart, and another one with the same key when it ends or the names change.
func TestSelfSignedKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := selfConfig(t, dir, "gw.example", "192.0.2.1")
	first := mustNew(t, cfg)
	leaf := first.slots[0].self.Leaf
	if leaf.VerifyHostname("gw.example") != nil || leaf.VerifyHostname("192.0.2.1") != nil {
		t.Errorf("it is for %v, %v", leaf.DNSNames, leaf.IPAddresses)
	}
	if again := mustNew(t, cfg).slots[0].self.Leaf; !again.Equal(leaf) {
		t.Error("a restart made another one")
	}
	soon, err := first.selfSigned(cfg.Names, leaf.NotAfter.Add(-selfRenew-time.Hour))
	if err != nil || !soon.Leaf.Equal(leaf) {
		t.Errorf("renewed too early: %v", err)
	}
	renewed, err := first.selfSigned(cfg.Names, leaf.NotAfter.Add(-selfRenew+time.Hour))
	if err != nil || renewed.Leaf.Equal(leaf) || pinOf(renewed.Leaf) != pinOfKey(t, first.cfg.Key) {
		t.Errorf("at its end: %v", err)
	}
	cfg.Names = cfg.Names[:1]
	if fewer := mustNew(t, cfg).slots[0].self.Leaf; len(fewer.IPAddresses) != 0 {
		t.Error("it is for a name of the past")
	}
	if st := first.Status(); st.Mode != Self || st.Alarm != "" || !st.Certificates[0].SelfSigned {
		t.Errorf("%+v", st)
	}
	noPrivateKey(t, dir)
}

// issue is a CA of the operator's own.
func issue(t *testing.T, request []byte, days int) []byte {
	t.Helper()
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := csr.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "The Firm's CA"}}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: csr.DNSNames,
		NotBefore: now.AddDate(0, 0, days-90), NotAfter: now.AddDate(0, 0, days)}, ca, csr.PublicKey, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// The operator's own chain is served, read again when it changes, and refused when it is for another key.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := selfConfig(t, dir, "gw.example")
	cfg.Mode, cfg.Chain = Files, filepath.Join(dir, "chain.pem")
	at := time.Now().Add(-time.Hour)
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(cfg.Chain, b, 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Minute) // some file systems' clocks are coarse
		if err := os.Chtimes(cfg.Chain, at, at); err != nil {
			t.Fatal(err)
		}
	}
	m := mustNew(t, cfg)
	if st := m.Status(); !st.Certificates[0].SelfSigned || !strings.Contains(st.Alarm, "chain.pem") {
		t.Errorf("without the file: %+v", st)
	}
	other, err := Request(newKey(t), cfg.Names)
	if err != nil {
		t.Fatal(err)
	}
	write(issue(t, other, 80))
	m.work(t.Context())
	if st := m.Status(); !st.Certificates[0].SelfSigned || !strings.Contains(st.Alarm, "godwit gateway csr") {
		t.Errorf("for another key: %+v", st)
	}
	ours, err := Request(cfg.Key, cfg.Names)
	if err != nil {
		t.Fatal(err)
	}
	write(issue(t, ours, 80))
	m.work(t.Context())
	if st := m.Status(); st.Certificates[0].SelfSigned || st.Certificates[0].Issuer != "The Firm's CA" || st.Alarm != "" {
		t.Errorf("%+v", st)
	}
	write([]byte("rubbish"))
	m.work(t.Context())
	if st := m.Status(); st.Certificates[0].SelfSigned || st.Alarm == "" {
		t.Errorf("a bad file took the place of a good one, or nobody was told: %+v", st)
	}
	write(issue(t, ours, 20))
	m.work(t.Context())
	if st := m.Status(); !strings.Contains(st.Alarm, "expires on") {
		t.Errorf("with 20 of 90 days left: %+v", st)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "../x", "gw example", "gw/x", "гв.example", "GW.example", ".", "fe80::1%eth0",
		`a\b`} {
		if _, err := New(selfConfig(t, t.TempDir(), bad)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if _, err := New(selfConfig(t, t.TempDir())); err == nil {
		t.Error("no name passed")
	}
	cfg := selfConfig(t, t.TempDir(), "gw.example")
	cfg.Mode = "acmee"
	if _, err := New(cfg); err == nil {
		t.Error("a mode that is none passed")
	}
}

func FuzzChain(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseChain(b, newKey(t)); err == nil {
			t.Errorf("%d certificates for a key that is new", len(c.Certificate))
		}
	})
}
