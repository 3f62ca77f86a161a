package gatewaydir

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/certificate"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

func TestCertificateSettingsErrors(t *testing.T) {
	t.Parallel()
	const name = "listen = [':443']\nendpoints = ['gw.example:443']\n[certificate]\n"
	const addr = "listen = [':443']\nendpoints = ['192.0.2.1:443']\n[certificate]\n"
	for _, good := range []string{name, name + "mode = 'self'\n", name + "mode = 'acme'\nemail = 'me@gw.example'\n",
		name + "mode = 'acme'\nca = 'https://ca.example/dir'\nca_root = '/etc/ca.pem'\n",
		name + "mode = 'acme'\ndns = 'rfc2136'\ndns_server = 'ns.example:53'\ndns_key_name = 'k'\ndns_key = 'AAAA'\n",
		addr + "mode = 'acme'\naddress = true\n", name + "mode = 'files'\nchain = '/etc/chain.pem'\n"} {
		good = strings.ReplaceAll(good, "/etc", filepath.ToSlash(t.TempDir())) // on Windows that is no whole path
		if _, err := ParseSettings([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, tt := range []struct{ text, want string }{
		{name + "mode = 'letsencrypt'\n", "field certificate.mode"},
		{name + "mail = 'x'\n", "mail"},
		{name + "mode = 'files'\n", "field certificate.chain"},
		{name + "mode = 'files'\nchain = 'chain.pem'\n", "field certificate.chain"},
		{name + "chain = '/etc/chain.pem'\n", "field certificate.chain"},
		{addr + "mode = 'acme'\n", "field certificate.mode"},
		{name + "mode = 'acme'\nca = 'http://ca.example'\n", "field certificate.ca"},
		{name + "mode = 'acme'\nemail = 'me'\n", "field certificate.email"},
		{name + "mode = 'acme'\ndns = 'cloudflare'\n", "field certificate.dns"},
		{name + "mode = 'acme'\ndns = 'rfc2136'\n", "field certificate.dns_server"},
		{name + "mode = 'acme'\ndns = 'rfc2136'\ndns_server = 'ns:53'\ndns_key_name = 'k'\ndns_key = 'secret!'\n",
			"field certificate.dns_key"},
		{name + "mode = 'acme'\ndns_wait_seconds = -1\n", "field certificate.dns_wait_seconds"},
		{"listen = [':443']\nendpoints = ['гв.example:443']\n", "field endpoints"},
	} {
		_, err := ParseSettings([]byte(tt.text))
		if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret!") {
			t.Errorf("%q: %v, want it to name %q", tt.text, err, tt.want)
		}
	}
}

// A CA is asked only for a public name on the port where it looks, and only where nothing was chosen.
func TestInitChoosesMode(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{"vpn.example.com:443": certificate.ACME, "vpn.example.com:8443": "",
		"203.0.113.7:443": "", "[2001:db8::1]:443": "", "gw.example:443": "", "gateway:443": "", "gw.home.arpa:443": ""} {
		d, _ := mustInit(t, Paths{State: t.TempDir()}, endpoint)
		if got := d.Settings.Certificate.Mode; got != want {
			t.Errorf("%s: mode %q, want %q", endpoint, got, want)
		}
	}
	p := Paths{State: t.TempDir()}
	mustInit(t, p, "203.0.113.7:443")
	if d, _ := mustInit(t, p, "vpn.example.com:443"); d.Settings.Certificate.Mode != certificate.ACME {
		t.Error("a name that came later is not taken to a CA")
	}
	chosen := strings.Replace(string(read(t, p.SettingsFile())), "mode = 'acme'", "mode = 'self'", 1)
	if err := os.WriteFile(p.SettingsFile(), []byte(chosen), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, _ := mustInit(t, p, "other.example.com:443"); d.Settings.Certificate.Mode != certificate.Self {
		t.Error("what the operator chose was changed")
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	p := Paths{State: t.TempDir()}
	d, _ := mustInit(t, p, "gw.example:443", "192.0.2.1:443", "gw.example:8443")
	serve := func() *x509.Certificate {
		t.Helper()
		m, err := d.Certificates(quiet)
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "gw.example"})
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo) != d.TLS.Pin {
			t.Error("its pin is not what access keys carry")
		}
		return c.Leaf
	}
	first := serve()
	if !slices.Equal(first.DNSNames, []string{"gw.example"}) || len(first.IPAddresses) != 1 || !serve().Equal(first) {
		t.Errorf("%v, %v, or another one the second time", first.DNSNames, first.IPAddresses)
	}
	if _, err := os.Stat(filepath.Join(p.State, "keys", acmeFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an account at a CA that is not asked: %v", err)
	}

	d.Settings.Certificate = CertificateSettings{Mode: certificate.ACME, CARoot: filepath.Join(p.State, "root.pem")}
	if _, err := d.Certificates(quiet); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "ca_root") {
		t.Errorf("without the root: %v", err)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Raw})
	if err := os.WriteFile(d.Settings.Certificate.CARoot, root, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serve(); len(got.IPAddresses) != 0 {
		t.Errorf("the CA would be asked for %v", got.IPAddresses)
	}
	account := read(t, filepath.Join(p.State, "keys", acmeFile))
	if serve(); string(read(t, filepath.Join(p.State, "keys", acmeFile))) != string(account) {
		t.Error("another account at every start")
	}
	for _, dir := range []string{"acme", "self-signed"} {
		if err := secretfile.CheckDir(filepath.Join(p.State, dir)); err != nil {
			t.Error(err)
		}
	}
}

// Whoever has the text of a key keeps access over one rotation; the keys that are served are always pinned in pairs.
func TestRotateTLSKey(t *testing.T) {
	t.Parallel()
	p := Paths{State: t.TempDir()}
	d, _ := mustInit(t, p, "gw.example:443")
	before := d.TLS
	request, err := d.CertificateRequest(true)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil || csr.DNSNames[0] != "gw.example" {
		t.Fatalf("the next key's request: %v", err)
	}
	if resumed, err := d.RotateTLSKey(); err != nil || resumed {
		t.Fatal(resumed, err)
	}
	after := d.TLS
	if after.Pin != before.NextPin || after.NextPin == before.NextPin || after.NextPin == before.Pin {
		t.Error("the next key did not become the key")
	}
	if !d.TLS.key.PublicKey.Equal(csr.PublicKey) {
		t.Error("the request was for another key")
	}
	if after.NextSince.Before(before.NextSince) || after.NextSince.IsZero() {
		t.Errorf("the next key is of %v, the one before of %v", after.NextSince, before.NextSince)
	}
	if again, err := p.Open(t.Context(), quiet); err != nil {
		t.Fatal(err)
	} else if again.Close(); again.TLS.Pin != after.Pin || again.TLS.NextPin != after.NextPin {
		t.Error("opened again, the keys are others")
	}
	if _, err := os.Stat(filepath.Join(p.State, "keys", afterTLSFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a third key is left: %v", err)
	}
}

// A crash after any step leaves a pair that opens, and one more call leaves the pair that one rotation makes.
func TestRotateTLSKeyInterrupted(t *testing.T) {
	t.Parallel()
	for _, steps := range []int{1, 2} {
		t.Run(fmt.Sprint(steps), func(t *testing.T) {
			t.Parallel()
			p := Paths{State: t.TempDir()}
			d, _ := mustInit(t, p, "gw.example:443")
			before := d.TLS
			if err := makeKey(p.State, afterTLSFile, tlsKind); err != nil {
				t.Fatal(err)
			}
			_, coming, err := loadTLSKey(keyPath(p.State, afterTLSFile))
			if err != nil {
				t.Fatal(err)
			}
			want := [2][32]byte{before.Pin, before.NextPin}
			if steps == 2 {
				b, err := secretfile.Read(keyPath(p.State, nextTLSFile), tlsKind, scalarSize)
				if err == nil {
					err = secretfile.Write(keyPath(p.State, tlsFile), tlsKind, b)
				}
				if err != nil {
					t.Fatal(err)
				}
				want = [2][32]byte{before.NextPin, coming}
			}
			again, err := p.Open(t.Context(), quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if got := [2][32]byte{again.TLS.Pin, again.TLS.NextPin}; got != want {
				t.Error("after the crash it is another pair")
			}
			if resumed, err := again.RotateTLSKey(); err != nil || resumed != (steps == 2) {
				t.Errorf("resumed %v, %v", resumed, err)
			}
			if again.TLS.Pin != before.NextPin || again.TLS.NextPin != coming {
				t.Error("after one more call it is not the pair that one rotation makes")
			}
		})
	}
}
