package prober

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// patience is what the tests' servers are given to answer; the time that they would close after is another matter.
const patience = 800 * time.Millisecond

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// probe probes a suspect beside the control.
func probe(t *testing.T, control netip.AddrPort, s Suspect) *Report {
	t.Helper()
	return probeFor(t, patience, control, s)
}

// probeFor is probe with another patience.
func probeFor(t *testing.T, patience time.Duration, control netip.AddrPort, s Suspect) *Report {
	t.Helper()
	p, err := New(Config{Control: control, Scale: 1e-9, Patience: patience, Parallel: 12, Seed: 1})
	ok(t, err)
	if s.Network == "" {
		s.Network = "tcp"
	}
	began := time.Now()
	r, err := p.Probe(t.Context(), s)
	ok(t, err)
	var b bytes.Buffer
	ok(t, r.WriteText(&b))
	t.Logf("in %s\n%s", time.Since(began).Round(time.Millisecond), &b)
	return r
}

// want checks the verdict.
func (r *Report) want(t *testing.T, outcome Outcome, kind string, sure bool) {
	t.Helper()
	if v := r.Verdict; v.Outcome != outcome || v.Kind != kind || v.Sure != sure {
		t.Errorf("the verdict is %+v, want %s %q, sure %v", v, outcome, kind, sure)
	}
}

// serve gives each connection to f; all of it ends with the test.
func serve(t testing.TB, f func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	ended := false
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if ended {
				c.Close()
			}
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		ended = true
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// selfSigned is a certificate for the loopback.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.site.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		DNSNames: []string{"www.site.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	ok(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// website is net/http with x/net's HTTP/2, as Caddy has it. net/http's own copy is older: the prober tells the two apart
// by a setting (9, RFC 9218).
func website(t testing.TB, config *tls.Config, h http.Handler) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	s := &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: log.New(io.Discard, "", 0)}
	//lint:ignore SA1019 it is what Caddy calls
	ok(t, http2.ConfigureServer(s, nil))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if config == nil {
			s.Serve(l)
		} else {
			s.ServeTLS(l, "", "")
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func plainSite(t testing.TB) netip.AddrPort {
	return website(t, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}, pages("the page"))
}

func pages(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "<title>%s</title>", text)
	})
}

// recorder forwards connections to a server, and keeps the first packets that went each way.
type recorder struct {
	addr           netip.AddrPort
	mu             sync.Mutex
	client, server [][]byte
}

func tap(t testing.TB, to string) *recorder {
	t.Helper()
	r := new(recorder)
	r.addr = serve(t, func(c net.Conn) {
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { r.forward(up, c, &r.client) })
		wg.Go(func() { r.forward(c, up, &r.server) })
		wg.Wait()
	})
	return r
}

func (r *recorder) forward(to, from net.Conn, keep *[][]byte) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		r.mu.Lock()
		if len(*keep) < 16 { // a flight of many writes may come in as many reads
			*keep = append(*keep, bytes.Clone(b[:n]))
		}
		r.mu.Unlock()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// suspect is the server behind the recorder, with what was recorded.
func (r *recorder) suspect(t testing.TB, at netip.AddrPort) Suspect {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.client) == 0 {
		t.Fatal("nothing was recorded")
	}
	return Suspect{Network: "tcp", Addr: at, Why: "the test says so", Client: r.client, Server: r.server}
}

// A suspect on port 80 is compared with what answers there, and its answers are told apart.
func TestBare(t *testing.T) {
	t.Parallel()
	p, err := New(Config{Control: netip.MustParseAddrPort("192.0.2.1:443"), Bare: netip.MustParseAddrPort("192.0.2.1:80"), Scale: 1})
	ok(t, err)
	for suspect, want := range map[string]string{"192.0.2.2:443": "192.0.2.1:443", "192.0.2.2:80": "192.0.2.1:80", "192.0.2.2:8080": "192.0.2.1:443"} {
		if got := p.control(Suspect{Network: "tcp", Addr: netip.MustParseAddrPort(suspect)}).String(); got != want {
			t.Errorf("%s is compared with %s", suspect, got)
		}
	}
	answer := "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: 2\r\n\r\nhi"
	twice := func(first, second string) string { return describe(fmt.Appendf(nil, answer+answer, first, second)) }
	if a, b := twice("today", "today"), twice("today", "tomorrow"); a != b || !strings.Contains(a, " then HTTP/1.1 200 OK") {
		t.Errorf("two answers on one connection are %q and %q", a, b)
	}
}

// The measured delays, B2.
func TestDelay(t *testing.T) {
	t.Parallel()
	r := mrand.New(mrand.NewPCG(1, 2))
	const n = 200_000
	var within [3]int
	for range n {
		d := Delay(r)
		if d < 280*time.Millisecond || d > longestDelay {
			t.Fatalf("drew %s", d)
		}
		for i, bound := range []time.Duration{time.Second, time.Minute, 15 * time.Minute} {
			if d < bound {
				within[i]++
			}
		}
	}
	for i, least := range []float64{0.20, 0.50, 0.75} {
		if share := float64(within[i]) / n; share <= least || share > least+0.04 {
			t.Errorf("bound %d: a share of %.3f, want a little above %.2f", i, share, least)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{Control: netip.MustParseAddrPort("192.0.2.1:443"), Scale: 1}
	for field, change := range map[string]func(*Config){
		"Control": func(c *Config) { c.Control = netip.AddrPort{} },
		"Scale":   func(c *Config) { c.Scale = 0 },
		"Replays": func(c *Config) { c.Replays = MaxReplays + 1 },
		"Tries":   func(c *Config) { c.Tries = -1 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	p, err := New(good)
	ok(t, err)
	if _, err := p.Probe(t.Context(), Suspect{Network: "sctp"}); err == nil || !strings.Contains(err.Error(), "Network") {
		t.Errorf("a suspect of no known network: %v", err)
	}
}

// Names are how results are found.
func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range All() {
		k := p.Kind()
		if id := k.Network + k.Name; seen[id] || k.Name == "" || k.Family == "" || k.Network != "tcp" && k.Network != "udp" {
			t.Errorf("%+v", k)
		} else {
			seen[id] = true
		}
	}
	for _, name := range []string{identical, byteChanged, threshold, floodOwn, floodStranger, openvpnReset, openvpnShort, randomBytes(openvpnRandom)} {
		if !seen["tcp"+name] {
			t.Errorf("no probe %q, which a rule asks for", name)
		}
	}
}

// A website is cleared beside another of its kind, with a visitor's flight replayed.
func TestWebsite(t *testing.T) {
	t.Parallel()
	suspect := plainSite(t)
	rec := tap(t, suspect.String())
	visitor := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true,
		ServerName: "www.site.example"}, ForceAttemptHTTP2: true}}
	resp, err := visitor.Get("https://" + rec.addr.String())
	ok(t, err)
	resp.Body.Close()
	visitor.CloseIdleConnections()
	s := rec.suspect(t, suspect)
	if name, protocols := offered(s.Client); name != "www.site.example" || len(protocols) != 2 {
		t.Errorf("the recorded hello offers %q, %q", name, protocols)
	}
	r := probe(t, plainSite(t), s)
	r.want(t, Cleared, "", true)
	for _, res := range r.Results {
		if res.Suspect.End == NotSent && res.Probe != "R5 bytes 6, 16 changed" {
			t.Errorf("%s was not sent: %s", res.Probe, res.Suspect.What)
		}
	}
	var b bytes.Buffer
	ok(t, r.WriteJSON(&b))
	var back Report
	ok(t, json.Unmarshal(b.Bytes(), &back))
	if back.Schema != schema || back.Verdict != r.Verdict || len(back.Results) != len(r.Results) {
		t.Errorf("JSON reads back as %+v", back.Verdict)
	}
}

// What differs in its page or its certificate is another site, and not a proxy.
func TestOtherWebsite(t *testing.T) {
	t.Parallel()
	other := website(t, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}, pages("another page"))
	r := probe(t, plainSite(t), Suspect{Addr: other})
	r.want(t, Undecided, "", false)
	if !strings.Contains(r.Verdict.Reason, "GET /") {
		t.Errorf("the reason is %q", r.Verdict.Reason)
	}
}

func TestSilent(t *testing.T) {
	t.Parallel()
	silent := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	probe(t, plainSite(t), Suspect{Addr: silent, Client: [][]byte{make([]byte, 300)}}).
		want(t, Unmasked, "probe-resistant server", false)
}

func TestEcho(t *testing.T) {
	t.Parallel()
	echo := serve(t, func(c net.Conn) { io.Copy(c, c) })
	probe(t, plainSite(t), Suspect{Addr: echo}).want(t, Undecided, "", false)
}

func TestNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	addr := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	r := probe(t, plainSite(t), Suspect{Addr: addr})
	r.want(t, Undecided, "", false)
	if r.Verdict.Reason != "nobody is there" {
		t.Errorf("the reason is %q", r.Verdict.Reason)
	}
}

// Probes come from all the prober's addresses.
func TestSources(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	from := map[netip.Addr]bool{}
	suspect := serve(t, func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		from[netip.MustParseAddrPort(c.RemoteAddr().String()).Addr()] = true
	})
	sources := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}
	p, err := New(Config{Control: plainSite(t), Sources: sources, Scale: 1e-9, Patience: 100 * time.Millisecond, Tries: 1,
		Parallel: 12})
	ok(t, err)
	_, err = p.Probe(t.Context(), Suspect{Network: "tcp", Addr: suspect})
	ok(t, err)
	mu.Lock()
	defer mu.Unlock()
	if len(from) != 2 || !from[sources[0]] || !from[sources[1]] {
		t.Errorf("probes came from %v", from)
	}
}

// Run probes each suspect once, and tells.
func TestRun(t *testing.T) {
	t.Parallel()
	got := make(chan *Report, 4)
	p, err := New(Config{Control: plainSite(t), Scale: 1e-6, Patience: 100 * time.Millisecond, Tries: 1,
		Longest: time.Minute, Report: func(r *Report) { got <- r }})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	s := Suspect{Network: "udp", Addr: netip.MustParseAddrPort("127.0.0.1:9")}
	if !p.Suspect(s) || p.Suspect(s) {
		t.Error("the first is to be taken, the second is not")
	}
	if r := <-got; r.Suspect != s.Addr || r.Verdict.Outcome != Undecided {
		t.Errorf("reported %+v", r)
	}
	cancel()
	ok(t, <-done)
}

// A Probe that is given up returns soon.
func TestCancel(t *testing.T) {
	t.Parallel()
	p, err := New(Config{Control: plainSite(t), Scale: 1})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	silent := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	if _, err := p.Probe(ctx, Suspect{Network: "tcp", Addr: silent}); err != context.Canceled {
		t.Errorf("err = %v", err)
	}
}
