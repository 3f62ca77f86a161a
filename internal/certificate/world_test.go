package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/mholt/acmez/v3"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Pebble, which is Let's Encrypt's CA for tests, by default sleeps, refuses one nonce in twenty, and remembers half of
	// the validations.
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0",
		"PEBBLE_AUTHZREUSE": "0"} {
		os.Setenv(name, value)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"))
}

// world is a CA, the name server that it asks, and the ports on which it validates names:
//
//	Manager ── ACME ─▶ CA (Pebble) ── HTTP-01, TLS-ALPN-01 ─▶ gateway
//	   └─ RFC 2136 ─▶ name server ◀─ A, TXT ──┘
//
// Every name is at 127.0.0.1.
type world struct {
	directory string
	roots     *x509.CertPool // of the CA's own certificate
	issuers   *x509.CertPool // of those it gives
	down      atomic.Bool    // the CA does not answer
	orders    atomic.Int64
	requests  atomic.Int64

	http, tls net.Listener
	answered  atomic.Int64 // requests that came to port 80 and did not go past
	past      atomic.Int64

	names *nameServer
}

func newWorld(t *testing.T, profiles map[string]ca.Profile) *world {
	t.Helper()
	w := &world{names: newNameServer(t)}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	w.http, w.tls = listen(), listen()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	if profiles == nil {
		profiles = map[string]ca.Profile{"default": {Description: "90 days", ValidityPeriod: 90 * 24 * 3600}}
	}
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, profiles)
	port := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
	validator := va.New(quiet, port(w.http), port(w.tls), false, w.names.addr, store)
	front := wfe.New(quiet, store, validator, issuer, []string{"ca.example"}, false, false, 1, 1)
	handler := front.Handler()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		if w.down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/order-plz") {
			w.orders.Add(1)
		}
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(srv.Close)
	w.directory = srv.URL + wfe.DirectoryPath
	w.roots = x509.NewCertPool()
	w.roots.AddCert(srv.Certificate())
	w.issuers = x509.NewCertPool()
	w.issuers.AddCert(issuer.GetRootCert(0).Cert)
	t.Cleanup(func() { w.http.Close(); w.tls.Close() })
	return w
}

func (w *world) config(t *testing.T, dir string, key *ecdsa.PrivateKey, names ...string) Config {
	return Config{Mode: ACME, Key: key, Names: names, Dir: dir, Log: slog.New(slog.DiscardHandler),
		CA: CA{Directory: w.directory, Roots: w.roots, Email: "operator@gw.example", Account: newKey(t)}}
}

// serve is the gateway: its port 80 if http, its port 443 with ACME's handshakes if alpn.
func (w *world) serve(t *testing.T, m *Manager, http01, alpn bool) {
	t.Helper()
	stranger := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.past.Add(1)
		http.Error(rw, "the website", http.StatusNotFound)
	})
	if http01 {
		inner := m.HTTPHandler(stranger)
		srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			before := w.past.Load()
			if inner.ServeHTTP(rw, r); w.past.Load() == before {
				w.answered.Add(1)
			}
		})}
		go srv.Serve(w.http)
		t.Cleanup(func() { srv.Close() })
	}
	config := &tls.Config{GetCertificate: m.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
	if alpn {
		config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { return m.ConfigForChallenge(h), nil }
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := w.tls.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				s := tls.Server(c, config)
				if s.Handshake() == nil && s.ConnectionState().NegotiatedProtocol != acmez.ACMETLS1Protocol {
					io.Copy(io.Discard, s)
				}
			})
		}
	})
	t.Cleanup(func() { w.tls.Close(); wg.Wait() })
}

// hello is what a browser gets of the gateway for a name; empty is none.
func (w *world) hello(t *testing.T, name string, protocols ...string) (tls.ConnectionState, error) {
	t.Helper()
	c, err := net.Dial("tcp", w.tls.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protocols})
	err = s.Handshake()
	return s.ConnectionState(), err
}

func (w *world) leaf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	s, err := w.hello(t, name, "h2")
	if err != nil {
		t.Fatal(err)
	}
	return s.PeerCertificates[0]
}

// trusted reports whether a browser that knows the CA accepts what the gateway shows.
func (w *world) trusted(t *testing.T, name string) bool {
	t.Helper()
	s, err := w.hello(t, name, "h2")
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: w.issuers, Intermediates: between})
	return err == nil
}

// run runs the manager until the test ends.
func run(t *testing.T, m *Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// eventually waits for what happens on its own.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !yes(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustNew(t *testing.T, cfg Config) *Manager {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// noPrivateKey fails if a file below dir holds one.
func noPrivateKey(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "PRIVATE") {
			t.Errorf("%s holds a private key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

const (
	updateKeyName = "godwit-key."
	updateKey     = "c2VjcmV0IG9mIHRoZSB0ZXN0IGFuZCBubyBvdGhlcg=="
)

// nameServer is the primary server of gw.example: every name is 127.0.0.1, and TXT records are what updates made them.
type nameServer struct {
	addr    string
	mu      sync.Mutex
	txt     map[string][]string
	updates int
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addr: l.Addr().String(), txt: map[string][]string{}}
	srv := &dns.Server{Listener: l, Handler: n, TsigSecret: map[string]string{updateKeyName: updateKey},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ActivateAndServe()
	}()
	t.Cleanup(func() { srv.Shutdown(); l.Close(); <-done })
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	defer w.WriteMsg(a)
	name := q.Question[0].Name
	if q.Opcode == dns.OpcodeUpdate {
		if q.IsTsig() == nil || w.TsigStatus() != nil || name != "gw.example." {
			a.Rcode = dns.RcodeRefused
			return
		}
		for _, rr := range q.Ns {
			txt := rr.(*dns.TXT)
			switch at := txt.Hdr.Name; txt.Hdr.Class {
			case dns.ClassINET:
				n.txt[at] = append(n.txt[at], txt.Txt[0])
			case dns.ClassNONE:
				delete(n.txt, at)
			}
		}
		n.updates++
		a.SetTsig(updateKeyName, dns.HmacSHA256, 300, time.Now().Unix())
		return
	}
	header := dns.RR_Header{Name: name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 1}
	switch q.Question[0].Qtype {
	case dns.TypeA:
		a.Answer = append(a.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
	case dns.TypeTXT:
		for _, v := range n.txt[name] {
			a.Answer = append(a.Answer, &dns.TXT{Hdr: header, Txt: []string{v}})
		}
	case dns.TypeSOA:
		a.Rcode = dns.RcodeNameError
		header.Name = "gw.example."
		a.Ns = append(a.Ns, &dns.SOA{Hdr: header, Ns: "ns.gw.example.", Mbox: "x.gw.example.", Serial: 1})
	}
}
