package survey

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// world is a gateway, started as the command starts it.
type world struct {
	dir     *gatewaydir.Dir
	gateway *gatewaydir.Service
	plain   uint16 // where it redirects to https
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func newWorld(t *testing.T) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	addr, plain := freePort(t), freePort(t)
	dir, _, err := gatewaydir.Init(t.Context(), t.TempDir(), []string{addr.String()}, log)
	if err != nil {
		t.Fatal(err)
	}
	dir.Settings.Listen = []string{addr.String()}
	dir.Settings.Website.Redirect = &[]string{plain.String()}
	dir.Settings.Egress.Allow = []string{"127.0.0.0/8"}
	dir.Settings.Transports = []string{"https"} // what a survey looks at
	g, err := dir.Service(log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // the gateway does not wait for us
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		g.Close()
		dir.Close()
	})
	return &world{dir, g, plain.Port()}
}

// key makes an access key for one device.
func (w *world) key(t *testing.T, k control.AccessKey) accesskey.Key {
	t.Helper()
	k.MaxDevices = 1
	k, err := w.dir.Control.AddKey(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) devices(t *testing.T, key accesskey.Key) []control.Device {
	t.Helper()
	all, err := w.dir.Control.Devices(t.Context(), control.DeviceFilter{KeyID: key.ID})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func run(t *testing.T, cfg Config) *Report {
	t.Helper()
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Endpoints {
		for _, c := range e.Checks {
			t.Logf("%-8s %-12s %s → %s", c.Outcome, c.Name, c.Detail, c.Next)
			if c.Outcome == Failed && c.Next == "" {
				t.Errorf("%s failed, and what to do next is not said", c.Name)
			}
		}
	}
	return r
}

// want checks the verdict, and the checks of the first endpoint: "name outcome".
func (r *Report) want(t *testing.T, v Verdict, checks ...string) *Endpoint {
	t.Helper()
	if r.Verdict != v {
		t.Errorf("the verdict is %q, want %q", r.Verdict, v)
	}
	var got []string
	for _, c := range r.Endpoints[0].Checks {
		got = append(got, fmt.Sprintf("%s %s", c.Name, c.Outcome))
	}
	if strings.Join(got, "|") != strings.Join(checks, "|") {
		t.Errorf("checks %q, want %q", got, checks)
	}
	return r.Endpoints[0]
}

// Without a device everything is seen up to the door, and no place of the key is taken.
func TestWithoutDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, control.AccessKey{Name: "a"})
	r := run(t, Config{Key: key, PlainPort: w.plain})
	e := r.want(t, Works, "IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok", fmt.Sprintf("port %d ok", w.plain),
		"door ok", "device skipped")
	if e.TLS.Group != "X25519MLKEM768" || !e.TLS.PostQuantum || e.TLS.Protocol != "h2" {
		t.Errorf("TLS is %+v", e.TLS)
	}
	if c := e.Certificate; !c.SelfSigned || c.Trusted || c.Pin != pinCurrent || len(c.Names) != 1 || c.Names[0] != "127.0.0.1" ||
		time.Until(c.NotAfter) < time.Hour {
		t.Errorf("the certificate is %+v", c)
	}
	if s := e.Website; s.Status != 200 || s.Title == "" || s.Protocol != "HTTP/2" || s.Bytes == 0 {
		t.Errorf("the website is %+v", s)
	}
	if e.Redirect.Status != http.StatusMovedPermanently || !strings.HasPrefix(e.Redirect.Location, "https://127.0.0.1") {
		t.Errorf("port 80 is %+v", e.Redirect)
	}
	if d := e.Door; !d.Opened || !d.PostQuantum || d.Device != deviceNone || d.Cause != wire.CauseProof || d.Took <= 0 {
		t.Errorf("the door is %+v", d)
	}
	if all := w.devices(t, key); len(all) != 0 || r.Enrolled != "" {
		t.Errorf("devices were enrolled: %v", all)
	}
	if secret := fmt.Sprintf("%x", key.Secret.Reveal()); strings.Contains(fmt.Sprintf("%x", fmt.Sprintf("%+v", *r)), secret) {
		t.Error("the report holds the secret")
	}
}

// With a device the speed is measured, and nothing is left at the gateway.
func TestWithDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, control.AccessKey{Name: "a"})
	content := make([]byte, 3<<20)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(content) }))
	defer site.Close()
	page, err := url.Parse(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	r := run(t, Config{Key: key, Enrol: true, URL: page, Done: func(c Check) { told = append(told, c.Name) }})
	e := r.want(t, Works, "IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok", "door ok", "device ok",
		"round trip ok", "up ok", "down ok")
	if len(told) != len(e.Checks) {
		t.Errorf("told of %q", told)
	}
	if all := w.devices(t, key); len(all) != 1 || all[0].ID.String() != r.Enrolled {
		t.Errorf("enrolled %q, and there are %v", r.Enrolled, all)
	}
	if s := e.Speed; len(s.RoundTrips) != pings || s.RTT <= 0 || s.UpBytes == 0 || s.Up <= 0 || s.Error != "" {
		t.Errorf("the speed is %+v", s)
	}
	if d := e.Download; d.Status != 200 || d.Bytes != int64(len(content)) || d.Rate <= 0 {
		t.Errorf("the download is %+v", d)
	}
	deadline := time.Now().Add(5 * time.Second)
	for w.gateway.Gateway.Status().Sessions > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("the gateway still has %+v", w.gateway.Gateway.Status())
		}
		time.Sleep(10 * time.Millisecond)
	}

	// A second device finds no place.
	r = run(t, Config{Key: key, Enrol: true, Quick: true})
	e = r.want(t, Refused, "IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok", "door ok", "device failed")
	if e.Door.Cause != wire.CauseTooManyDevices {
		t.Errorf("the door is %+v", e.Door)
	}
}

// A device that a client runs with is known, and no session is begun that could cost that one its own.
func TestDeviceInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, control.AccessKey{Name: "a"})
	cfg := Config{Key: key, Enrol: true, Quick: true}
	s := &surveyor{Config: cfg, dialer: new(https.Dialer)}
	e := &Endpoint{}
	s.door(t.Context(), key.Endpoints[0], key.Endpoints[0].Addr(), e)
	if s.Device == nil {
		t.Fatalf("not enrolled: %+v", e)
	}
	before := w.gateway.Gateway.Status()
	dev := *s.Device
	dev.InUse = true
	for _, cfg := range []Config{{Key: key, Device: &dev}, {Key: key, Device: s.Device, Quick: true}} {
		checks := []string{"IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok", "door ok", "device ok"}
		if !cfg.Quick {
			checks = append(checks, "speed skipped")
		}
		run(t, cfg).want(t, Works, checks...)
	}
	if after := w.gateway.Gateway.Status(); after.Admitted != before.Admitted {
		t.Errorf("links were let in: %d before, %d after", before.Admitted, after.Admitted)
	}
}

// What a key is worth is told without a device, and without taking a place.
func TestKeysThatAreOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	revoked := w.key(t, control.AccessKey{Name: "revoked"})
	expired := w.key(t, control.AccessKey{Name: "expired", Expires: time.Now().Add(1100 * time.Millisecond)})
	if err := w.dir.Control.RevokeKey(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond) // the expiry is in whole seconds
	for want, key := range map[wire.Cause]accesskey.Key{wire.CauseKeyRevoked: revoked, wire.CauseKeyExpired: expired} {
		e := run(t, Config{Key: key, Quick: true}).want(t, Refused, "IPv4 ok", "TLS ok", "pin ok", "certificate warning",
			"website ok", "door ok", "device failed")
		if e.Door.Cause != want {
			t.Errorf("cause %d, want %d", e.Door.Cause, want)
		}
		if all := w.devices(t, key); len(all) != 0 {
			t.Errorf("devices were enrolled: %v", all)
		}
	}
}

// A wrong secret is a stranger's; the pin of the next key is as good as the present one's.
func TestWrongSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, control.AccessKey{Name: "a"})
	key.NextPin, key.Pin = key.Pin, [32]byte{1}
	key.Secret = accesskey.NewSecret([accesskey.SecretSize]byte{1, 2, 3})
	e := run(t, Config{Key: key}).want(t, Blocked, "IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok",
		"door failed")
	if e.Door.Opened || e.Certificate.Pin != pinNext {
		t.Errorf("the door is %+v, the pin the %s one", e.Door, e.Certificate.Pin)
	}
}

// Of several endpoints each is looked at, and one that fails does not hide one that works.
func TestSeveralEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, control.AccessKey{Name: "a"})
	down := freePort(t)
	key.Endpoints = append([]accesskey.Endpoint{{Host: "127.0.0.1", Port: down.Port()}, {Transport: "pigeon", Host: "site.example"}},
		key.Endpoints...)
	r := run(t, Config{Key: key, Enrol: true, Quick: true})
	r.want(t, Partly, "IPv4 failed")
	if c := r.Endpoints[1].Checks; len(c) != 1 || c[0].Outcome != Skipped {
		t.Errorf("an unknown transport came to %+v", c)
	}
	if e := r.Endpoints[2]; e.Door == nil || e.Door.Answer != "welcome" {
		t.Errorf("the gateway's door is %+v", e.Door)
	}
	if r.Failures != 1 {
		t.Errorf("%d failures", r.Failures)
	}
}

// site is a web server that is no gateway, and what it was asked.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	conns    int
}

func newSite(t *testing.T, http2 bool) *site {
	t.Helper()
	s := new(site)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		w.Header().Set("Server", "else\twhere")
		io.WriteString(w, "<html><title>An\x1b[31m &lt;other&gt;\n site</title>")
	}))
	s.EnableHTTP2 = http2
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if state == http.StateNew {
			s.conns++
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// key is an access key that names the site as a gateway.
func (s *site) key(t *testing.T) accesskey.Key {
	t.Helper()
	at := netip.MustParseAddrPort(s.Listener.Addr().String())
	return accesskey.Key{ID: accesskey.ID{1}, Secret: accesskey.NewSecret([accesskey.SecretSize]byte{1}), Pin: [32]byte{1},
		Endpoints: []accesskey.Endpoint{{Host: at.Addr().String(), Port: at.Port(), Name: "example.com"}}}
}

// At a server with another key the website is looked at as anybody's browser would, and that is all that is sent.
func TestWrongPin(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	e := run(t, Config{Key: s.key(t), Enrol: true}).want(t, Blocked, "IPv4 ok", "TLS ok", "pin failed", "certificate warning",
		"website ok", "door skipped")
	if e.Website.Title != "An[31m <other> site" || e.Website.Server != "else where" {
		t.Errorf("the website is %+v", e.Website)
	}
	if e.Door != nil || e.Certificate.Pin != pinOther {
		t.Errorf("the door is %+v, the pin %s", e.Door, e.Certificate.Pin)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns != 1 || len(s.requests) != 1 {
		t.Fatalf("%d connections, %d requests", s.conns, len(s.requests))
	}
	r := s.requests[0]
	if r.Header.Get("Cookie") != "" || r.URL.Path != "/" || !strings.Contains(r.UserAgent(), "Chrome/") ||
		r.TLS.ServerName != "example.com" || !strings.HasPrefix(r.Host, "example.com:") {
		t.Errorf("it was asked %+v", r)
	}
}

// A web server with the right key is no gateway yet; that its CA is trusted is seen.
func TestPlainWebServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	key := s.key(t)
	key.Pin = transport.KeyHash(s.Certificate())
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	e := run(t, Config{Key: key, Roots: roots}).want(t, Blocked, "IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok",
		"door failed")
	if !e.Certificate.Trusted || e.Door.Opened || !strings.Contains(e.Door.Error, "did not open") {
		t.Errorf("%+v, %+v", e.Certificate, e.Door)
	}
	key.Endpoints[0].Name = "other.example"
	e = run(t, Config{Key: key, Roots: roots}).want(t, Blocked, "IPv4 ok", "TLS ok", "pin ok", "certificate warning", "website ok",
		"door failed")
	if e.Certificate.Trusted || e.Certificate.Distrust != "it is not for other.example" {
		t.Errorf("%+v", e.Certificate)
	}
}

func TestOldWebServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, false)
	s.TLS.CurvePreferences = []tls.CurveID{tls.X25519}
	key := s.key(t)
	e := run(t, Config{Key: key}).want(t, Blocked, "IPv4 ok", "TLS failed", "pin failed", "certificate warning", "website ok",
		"door skipped")
	if e.TLS.PostQuantum || e.TLS.Group != "X25519" || e.Website.Protocol != "HTTP/1.1" || e.Website.Title == "" {
		t.Errorf("%+v, %+v", e.TLS, e.Website)
	}
}

// What answers without TLS, or cuts, or not at all, is told apart.
func TestNoTLS(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		words string
	}{
		"plain": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "does not speak TLS"},
		"cut":   {func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, "connection reset"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Read(make([]byte, 4096))
					tt.serve(c)
					c.Close()
				}
			}()
			defer func() { l.Close(); <-done }()
			key := accesskey.Key{Pin: [32]byte{1}, Endpoints: []accesskey.Endpoint{
				{Host: "127.0.0.1", Port: netip.MustParseAddrPort(l.Addr().String()).Port()}}}
			e := run(t, Config{Key: key}).want(t, Blocked, "IPv4 ok", "TLS failed")
			if !strings.Contains(e.TLS.Error, tt.words) {
				t.Errorf("it was said that %q", e.TLS.Error)
			}
		})
	}
}

// A link that freezes after some bytes, and one that is slow, are told apart.
func TestUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tt := range map[string]struct {
		frozen  int // bytes up, from which on nothing passes
		pace    int // bytes a second up; 0 is without limit
		outcome Outcome
	}{
		"frozen": {frozen: 200_000, outcome: Warning},
		"slow":   {pace: 300_000, outcome: Good},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := w.key(t, control.AccessKey{Name: name})
			key.Endpoints[0].Port = between(t, key.Endpoints[0].Addr(), tt.frozen, tt.pace)
			e := run(t, Config{Key: key, Enrol: true}).Endpoints[0]
			for _, c := range e.Checks {
				if c.Name == "up" {
					if c.Outcome != tt.outcome || e.Speed.UpBytes == 0 || e.Speed.UpBytes > 8<<20 {
						t.Errorf("%+v, %+v", c, e.Speed)
					}
					return
				}
			}
			t.Errorf("the upload was not tried: %+v", e.Checks)
		})
	}
}

// between forwards to a gateway, and returns at which port.
func between(t *testing.T, to string, frozen, pace int) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			near.(*net.TCPConn).SetReadBuffer(64 << 10)
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			wg.Go(func() { io.Copy(near, far); near.Close() })
			wg.Go(func() {
				defer far.Close()
				b := make([]byte, 16<<10)
				for passed := 0; ; {
					n, err := near.Read(b)
					if err != nil {
						return
					}
					if passed += n; frozen > 0 && passed > frozen {
						continue
					}
					if pace > 0 {
						time.Sleep(time.Duration(n) * time.Second / time.Duration(pace))
					}
					far.Write(b[:n])
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// A name's addresses are shown, and one of them is enough.
func TestName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, control.AccessKey{Name: "a"})
	key.Endpoints[0].Host, key.Endpoints[0].Name = "localhost", "localhost"
	e := run(t, Config{Key: key, Quick: true}).Endpoints[0]
	if e.Lookup == nil || len(e.Lookup.Addresses) == 0 || e.Door == nil || !e.Door.Opened {
		t.Errorf("%+v", e)
	}
}

// Run ends with its context.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	key := accesskey.Key{Pin: [32]byte{1}, Endpoints: []accesskey.Endpoint{
		{Host: "127.0.0.1", Port: netip.MustParseAddrPort(l.Addr().String()).Port()}}}
	// Nobody accepts: the kernel does, and the hello stays without an answer.
	_, err = Run(ctx, Config{Key: key, Doing: func(what string) {
		if strings.Contains(what, "visiting") {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\x1b]0;b\x07 \u202ec\r\nd": "a]0;b c d", "\xffé": "é", "0123456789ab": "012345678…",
	} {
		if got := clean(in, 10); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
