package certificate

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

func pinOf(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// pinOfKey is what access keys carry of a key.
func pinOfKey(t *testing.T, key crypto.Signer) [sha256.Size]byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(spki)
}

// A CA that really comes and looks gives a certificate, by each of the three ways.
func TestObtain(t *testing.T) {
	t.Parallel()
	for name, ways := range map[string]struct{ http, alpn, dns bool }{
		"HTTP-01": {http: true}, "TLS-ALPN-01": {alpn: true}, "DNS-01": {dns: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t, nil), t.TempDir()
			cfg := w.config(t, dir, newKey(t), "vpn.gw.example")
			if ways.dns {
				cfg.CA.DNS = &RFC2136{Server: w.names.addr, KeyName: "godwit-key", Key: updateKey, Wait: time.Millisecond}
			}
			m := mustNew(t, cfg)
			w.serve(t, m, ways.http, ways.alpn)
			before := w.leaf(t, "vpn.gw.example")
			if before.Issuer.CommonName != "vpn.gw.example" || pinOf(before) != pinOfKey(t, m.cfg.Key) {
				t.Errorf("before the CA was asked: %v", before.Issuer)
			}
			stop := run(t, m)
			eventually(t, "a certificate", func() bool { return !m.Status().Certificates[0].SelfSigned })
			stop()
			for _, sni := range []string{"vpn.gw.example", "", "other.example"} {
				if got := w.leaf(t, sni); pinOf(got) != pinOfKey(t, m.cfg.Key) || got.VerifyHostname("vpn.gw.example") != nil {
					t.Errorf("for server name %q: %v", sni, got.DNSNames)
				}
			}
			if !w.trusted(t, "vpn.gw.example") {
				t.Error("a browser does not trust it")
			}
			if st := m.Status(); st.Alarm != "" || st.Certificates[0].LastError != "" ||
				!strings.HasPrefix(st.Certificates[0].Issuer, "Pebble") {
				t.Errorf("status: %+v", st)
			}
			if len(m.challenges.http)+len(m.challenges.alpn)+len(w.names.txt) != 0 {
				t.Error("answers to challenges are left")
			}
			if ways.http != (w.answered.Load() > 0) || ways.dns != (w.names.updates > 0) {
				t.Errorf("%d requests to port 80, %d updates", w.answered.Load(), w.names.updates)
			}
			noPrivateKey(t, dir)
		})
	}
}

// An address gets the short-lived profile, validated at its reverse name.
func TestObtainAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]ca.Profile{addressProfile: {Description: "6 days", ValidityPeriod: 160 * 3600}})
	m := mustNew(t, w.config(t, t.TempDir(), newKey(t), "127.0.0.1"))
	w.serve(t, m, false, true)
	m.work(t.Context())
	got := w.leaf(t, "")
	if got.VerifyHostname("127.0.0.1") != nil || got.NotAfter.Sub(got.NotBefore) > 7*24*time.Hour || pinOf(got) != pinOfKey(t, m.cfg.Key) {
		t.Errorf("%v, %v, %+v", got.IPAddresses, got.NotAfter, m.Status())
	}
}

// Renewal changes the certificate and not the key; a restart asks the CA nothing.
func TestRenewAndRestart(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, nil), t.TempDir()
	cfg := w.config(t, dir, newKey(t), "a.gw.example", "b.gw.example")
	m := mustNew(t, cfg)
	w.serve(t, m, true, true)
	m.work(t.Context())
	first, other := w.leaf(t, "a.gw.example"), w.leaf(t, "b.gw.example")
	if other.VerifyHostname("b.gw.example") != nil || other.VerifyHostname("a.gw.example") == nil ||
		pinOf(other) != pinOf(first) {
		t.Errorf("the second name's is for %v", other.DNSNames)
	}
	s := m.slots[0]
	if want := first.NotAfter.Add(-30 * 24 * time.Hour); s.next.Sub(want).Abs() > time.Minute {
		t.Errorf("it is renewed at %v, want %v", s.next, want)
	}

	s.askARI = time.Time{} // the CA is asked when it wants that
	m.work(t.Context())
	if s.ari.IsZero() || s.next.After(first.NotAfter.Add(-22*24*time.Hour)) ||
		w.leaf(t, "a.gw.example").SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Errorf("the CA's time is %v, it is renewed at %v", s.ari, s.next)
	}
	s.next = time.Now()
	m.work(t.Context())
	second := w.leaf(t, "a.gw.example")
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 || pinOf(second) != pinOf(first) || pinOf(second) != pinOfKey(t, m.cfg.Key) {
		t.Errorf("after renewal: %+v", m.Status())
	}

	asked := w.requests.Load()
	again := mustNew(t, cfg)
	again.work(t.Context())
	c, err := again.GetCertificate(&tls.ClientHelloInfo{ServerName: "A.gw.example"})
	if err != nil || c.Leaf.SerialNumber.Cmp(second.SerialNumber) != 0 {
		t.Errorf("after a restart: %v, %v", c.Leaf.SerialNumber, err)
	}
	if n := w.requests.Load() - asked; n != 0 {
		t.Errorf("a restart asked the CA %d times", n)
	}

	// Another key, as after rotate-key: what is kept is not for it.
	cfg.Key = newKey(t)
	rotated := mustNew(t, cfg)
	if st := rotated.Status(); !st.Certificates[0].SelfSigned || st.Alarm != "" {
		t.Errorf("with another key: %+v", st)
	}
}

// While the CA is away the gateway serves what it has and says so; when it is back, all is well.
func TestCADown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.down.Store(true)
	m := mustNew(t, w.config(t, t.TempDir(), newKey(t), "vpn.gw.example"))
	w.serve(t, m, true, true)
	m.work(t.Context())
	if got := w.leaf(t, "vpn.gw.example"); got.Issuer.CommonName != "vpn.gw.example" || pinOf(got) != pinOfKey(t, m.cfg.Key) {
		t.Errorf("it serves %v", got.Issuer)
	}
	st := m.Status()
	if c := st.Certificates[0]; !strings.Contains(st.Alarm, "self-signed") || !c.SelfSigned || c.LastError == "" ||
		time.Until(c.NextAttempt) < retryFirst/2 {
		t.Errorf("%+v", st)
	}
	asked := w.requests.Load()
	if m.work(t.Context()); w.requests.Load() != asked {
		t.Error("it asked again at once")
	}
	w.down.Store(false)
	m.slots[0].next = time.Now()
	m.work(t.Context())
	if st := m.Status(); st.Alarm != "" || st.Certificates[0].SelfSigned || !w.trusted(t, "vpn.gw.example") {
		t.Errorf("%+v", st)
	}
	// And away again, for long.
	w.down.Store(true)
	m.slots[0].next = time.Now()
	m.work(t.Context())
	if st := m.Status(); st.Alarm != "" || st.Certificates[0].LastError == "" {
		t.Errorf("one failure with all of its life left: %+v", st)
	}
	expires := m.slots[0].real.Leaf.NotAfter
	for left, want := range map[time.Duration]string{40 * 24 * time.Hour: "", 29 * 24 * time.Hour: "not renewed",
		-time.Hour: "has expired"} {
		if got := m.alarm(m.slots[0], expires.Add(-left)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("with %v left: %q", left, got)
		}
	}
}

// A CA that comes and finds nobody says what is wrong, and that is what the operator reads.
func TestNameElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	m := mustNew(t, w.config(t, t.TempDir(), newKey(t), "vpn.gw.example"))
	w.tls.Close()
	m.work(t.Context())
	if st := m.Status(); !strings.Contains(st.Alarm, "the CA says: ") || !strings.Contains(st.Alarm, "vpn.gw.example") {
		t.Errorf("%+v", st)
	}
}

// Strangers get what they always got, whether a challenge is pending or not.
func TestChallengesAndStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	m := mustNew(t, w.config(t, t.TempDir(), newKey(t), "vpn.gw.example"))
	w.serve(t, m, false, true)
	h := m.HTTPHandler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Error(rw, "the website", http.StatusTeapot)
	}))
	ask := func(method, host, path string) (int, string) {
		r := httptest.NewRequest(method, "http://"+host+path, nil)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	const path = "/.well-known/acme-challenge/"
	challenge := acme.Challenge{Identifier: acme.Identifier{Type: "dns", Value: "vpn.gw.example"}, Token: "token",
		KeyAuthorization: "token.thumb"}
	strangers := func(when string) {
		for _, tt := range [][3]string{{"GET", "vpn.gw.example", "/"}, {"GET", "vpn.gw.example", path},
			{"GET", "vpn.gw.example", path + "other"}, {"GET", "127.0.0.1", path + "token"},
			{"GET", "x.example", path + "token"}, {"POST", "vpn.gw.example", path + "token"}} {
			if code, _ := ask(tt[0], tt[1], tt[2]); code != http.StatusTeapot {
				t.Errorf("%s, %v: %d", when, tt, code)
			}
		}
		for _, name := range []string{"other.example", ""} {
			if _, err := w.hello(t, name, acmez.ACMETLS1Protocol); err == nil {
				t.Errorf("%s, it speaks acme-tls/1 for %q", when, name)
			}
		}
		if s, err := w.hello(t, "vpn.gw.example", acmez.ACMETLS1Protocol, "h2"); err != nil || s.NegotiatedProtocol != "h2" ||
			pinOf(s.PeerCertificates[0]) != pinOfKey(t, m.cfg.Key) {
			t.Errorf("%s, with both protocols: %v, %v", when, s.NegotiatedProtocol, err)
		}
	}
	quiet := func(when string) {
		strangers(when)
		if code, _ := ask("GET", "vpn.gw.example", path+"token"); code != http.StatusTeapot {
			t.Errorf("%s: it answers a challenge that is not pending: %d", when, code)
		}
		if _, err := w.hello(t, "vpn.gw.example", acmez.ACMETLS1Protocol); err == nil {
			t.Errorf("%s: it speaks acme-tls/1", when)
		}
	}
	quiet("before")
	byHTTP, byALPN := httpSolver{&m.challenges}, alpnSolver{&m.challenges}
	for _, s := range []acmez.Solver{byHTTP, byALPN} {
		if err := s.Present(t.Context(), challenge); err != nil {
			t.Fatal(err)
		}
	}
	strangers("during")
	for _, host := range []string{"vpn.gw.example", "VPN.gw.example:80"} {
		if code, text := ask("GET", host, path+"token"); code != http.StatusOK || text != "token.thumb" {
			t.Errorf("the challenge at %s: %d %q", host, code, text)
		}
	}
	if s, err := w.hello(t, "vpn.gw.example", acmez.ACMETLS1Protocol); err != nil ||
		s.NegotiatedProtocol != acmez.ACMETLS1Protocol || pinOf(s.PeerCertificates[0]) == pinOfKey(t, m.cfg.Key) {
		t.Errorf("the challenge by TLS: %v", err)
	}
	for _, s := range []acmez.Solver{byHTTP, byALPN} {
		if err := s.CleanUp(t.Context(), challenge); err != nil {
			t.Fatal(err)
		}
	}
	quiet("after")
}

func TestDNSRefused(t *testing.T) {
	t.Parallel()
	n := newNameServer(t)
	wrong := &RFC2136{Server: n.addr, KeyName: "godwit-key", Key: "b3RoZXI="}
	if err := wrong.update(t.Context(), "_acme-challenge.vpn.gw.example", "x", true); err == nil || n.updates != 0 {
		t.Errorf("a wrong key: %v, %d updates", err, n.updates)
	}
	if err := wrong.update(t.Context(), "_acme-challenge.elsewhere.example", "x", true); err == nil ||
		!strings.Contains(err.Error(), "zone") {
		t.Errorf("another zone: %v", err)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	from := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return from.AddDate(0, 0, n) }
	leaf := &x509.Certificate{NotBefore: from, NotAfter: day(90)}
	for ari, want := range map[time.Time]time.Time{{}: day(60), day(3): day(3), day(63): day(63),
		day(89): day(67).Add(12 * time.Hour)} {
		if got := renewAt(leaf, ari); !got.Equal(want) {
			t.Errorf("the CA says %v: %v, want %v", ari, got, want)
		}
	}
	for failures, want := range map[int]time.Duration{1: retryFirst, 2: 2 * retryFirst, 3: 4 * retryFirst, 9: retryMost,
		1000: retryMost} {
		if got := retryAfter(failures); got < want-want/8 || got > want+want/8 {
			t.Errorf("after %d failures: %v", failures, got)
		}
	}
}

// A file that was cut off, or tampered with, is asked for again rather than served.
func TestKeptChainDamaged(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, nil), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "acme"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "acme", "vpn.gw.example.pem"), []byte("-----BEGIN CERT"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := mustNew(t, w.config(t, dir, newKey(t), "vpn.gw.example"))
	w.serve(t, m, false, true)
	m.work(t.Context())
	if st := m.Status(); st.Certificates[0].SelfSigned || st.Alarm != "" {
		t.Errorf("%+v", st)
	}
}
