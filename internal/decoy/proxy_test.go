package decoy_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/decoy"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// upstream answers with what it was asked.
func upstream(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Site", "mine")
		if r.URL.Path == "/base/missing" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "%s %s host=%s for=%q proto=%q fhost=%q via=%q fwd=%q body=%q", r.Method, r.URL, r.Host, r.Header["X-Forwarded-For"],
			r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("Via"), r.Header.Get("Forwarded"), body)
	}))
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, s *httptest.Server, path string, header http.Header) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	r.Host = "site.example"
	got, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, _ := io.ReadAll(got.Body)
	return fmt.Sprintf("%d %s %s", got.StatusCode, got.Header.Get("X-Site"), body)
}

// TestProxy: the upstream learns what it needs, and the visitor's address only where that is asked for.
func TestProxy(t *testing.T) {
	t.Parallel()
	up := upstream(t)
	c := decoy.Config{Kind: decoy.Proxy, Upstream: mustURL(t, up.URL+"/base")}
	spoofed := http.Header{"X-Forwarded-For": {"192.0.2.9"}, "Forwarded": {"for=192.0.2.9"}}
	for _, h2 := range []bool{false, true} {
		s := serve(t, mustNew(t, c), h2)
		want := `200 mine GET /base/a%20b?x=1 host=site.example for=[] proto="https" fhost="site.example" via="" fwd="" body=""`
		if got := get(t, s, "/a%20b?x=1", spoofed); got != want {
			t.Errorf("http2 %v: got %s, want %s", h2, got, want)
		}
		if got := get(t, s, "/missing", http.Header{}); !strings.HasPrefix(got, "404 mine 404 page not found") {
			t.Errorf("its 404 became %s", got)
		}
	}
	c.ForwardedFor = true
	if got := get(t, serve(t, mustNew(t, c), true), "/", spoofed); !strings.Contains(got, `for=["127.0.0.1"]`) {
		t.Errorf("asked to say who visits, it says %s", got)
	}
}

// TestProxyDown: strangers see what they see of any Go proxy, and the log names no address.
func TestProxyDown(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := gone.Addr().String()
	gone.Close()
	var log bytes.Buffer
	u := mustURL(t, "http://"+address)
	c := decoy.Config{Kind: decoy.Proxy, Upstream: u, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	stock := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	h := mustNew(t, c)
	for _, h2 := range []bool{false, true} {
		got, want := serve(t, h, h2), serve(t, stock, h2)
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			for _, path := range []string{"/", "//", "/x?y", "/%00"} {
				if a, b := answer(t, got, method, path, nil), answer(t, want, method, path, nil); a != b || !strings.Contains(a, "502") {
					t.Errorf("%s %s: got %s, want %s", method, path, a, b)
				}
			}
		}
	}
	said := log.String()
	if strings.Count(said, "\n") != 1 || !strings.Contains(said, "upstream") {
		t.Errorf("of many failures within a minute the log says %q", said)
	}
	if strings.Contains(said, "127.0.0.1") || strings.Contains(said, ":"+strings.Split(address, ":")[1]) {
		t.Errorf("the log names an address: %s", said)
	}
}

// TestProxyCutOff: an upstream that breaks off in mid-page is passed on as one that did, without a word in the log.
func TestProxyCutOff(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "only this")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(up.Close)
	var log bytes.Buffer
	c := decoy.Config{Kind: decoy.Proxy, Upstream: mustURL(t, up.URL), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	s := serve(t, mustNew(t, c), true)
	got, err := s.Client().Get(s.URL)
	if err == nil {
		_, err = io.ReadAll(got.Body)
		got.Body.Close()
	}
	if err == nil {
		t.Error("half a page is passed on as a whole one")
	}
	if log.Len() > 0 {
		t.Errorf("the log says %s", &log)
	}
}

func TestProxyToNowhere(t *testing.T) {
	t.Parallel()
	for _, u := range []*url.URL{nil, {Scheme: "http"}, {Scheme: "ftp", Host: "a.example"}, {Host: "a.example"}} {
		if _, err := decoy.New(decoy.Config{Kind: decoy.Proxy, Upstream: u}); err == nil {
			t.Errorf("%v is taken", u)
		}
	}
}
