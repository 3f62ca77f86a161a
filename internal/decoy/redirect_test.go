package decoy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/decoy"
)

func TestRedirect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		port             uint16
		host, target, to string // an empty to is error 400
	}{
		{443, "a.example", "/", "https://a.example/"},
		{443, "a.example:80", "/x/y?q=1&r", "https://a.example/x/y?q=1&r"},
		{8443, "a.example:8080", "/", "https://a.example:8443/"},
		{443, "192.0.2.1", "/a%20b", "https://192.0.2.1/a%20b"},
		{443, "[2001:db8::1]:80", "/", "https://[2001:db8::1]/"},
		{8443, "[2001:db8::1]", "/", "https://[2001:db8::1]:8443/"},
		{443, "a.example.", "//b.example/..", "https://a.example.//b.example/.."},
		{443, "a.example", "/../x", "https://a.example/../x"},
		{443, "A_b.example", "/?", "https://A_b.example/?"},
		{443, "", "/", ""},
		{443, ":80", "/", ""},
		{443, "a.example:x", "/", ""},
		{443, "a.example:99999", "/", ""},
		{443, "a/b", "/", ""},
		{443, "a@b.example", "/", ""},
		{443, "a.example\\", "/", ""},
		{443, "a<b", "/", ""},
		{443, "[::1", "/", ""},
		{443, "[fe80::1%25eth0]", "/", ""},
		{443, "[x]:80", "/", ""},
		{443, "::1", "/", ""},
		{443, "-a", "/", ""},
		{443, strings.Repeat("a", 254), "/", ""},
		{443, "a.example", "*", ""},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS"} {
			r := httptest.NewRequest(method, "/", nil)
			if tt.target == "*" {
				r.URL.Path = "*"
				r.URL.Opaque = "*"
			} else {
				r = httptest.NewRequest(method, "http://x"+tt.target, nil)
			}
			r.Host = tt.host
			w := httptest.NewRecorder()
			decoy.Redirect(tt.port).ServeHTTP(w, r)
			if to := w.Header().Get("Location"); to != tt.to || tt.to == "" && w.Code != 400 || tt.to != "" && w.Code != 301 {
				t.Errorf("%s %q %q: %d %q, want %q", method, tt.host, tt.target, w.Code, to, tt.to)
			}
		}
	}
}

// TestRedirectAsGo: the answers are those of the few lines that Go's programs have for this.
func TestRedirectAsGo(t *testing.T) {
	t.Parallel()
	usual := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
	got, want := httptest.NewServer(decoy.Redirect(443)), httptest.NewServer(usual)
	defer got.Close()
	defer want.Close()
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, target := range []string{"/", "/x?y=z", "//x", "/%00", "/../..", "http://b.example/x", "/<b>"} {
			request := method + " " + target + " HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
			if a, b := raw(t, got, request), raw(t, want, request); a != b {
				t.Errorf("%q:\ngot  %q\nwant %q", request, a, b)
			}
		}
	}
	for _, request := range []string{"GET / HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x\r\n\r\n"} {
		if a, b := raw(t, got, request), raw(t, want, request); a != b {
			t.Errorf("%q:\ngot  %q\nwant %q", request, a, b)
		}
	}
	for _, request := range []string{"GET / HTTP/1.0\r\n\r\n", "GET http:b.example HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"} {
		if a := raw(t, got, request); !strings.Contains(a, " 400 ") || strings.Contains(a, "Location") {
			t.Errorf("%q: %q", request, a)
		}
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add("a.example:80", "/x?y")
	f.Add("[::1]", "//b")
	f.Add("a.example@b", "http:x")
	f.Fuzz(func(t *testing.T, host, target string) {
		r := httptest.NewRequest("GET", "/", nil)
		u, err := r.URL.Parse(target)
		if err != nil {
			return
		}
		r.URL, r.Host = u, host
		w := httptest.NewRecorder()
		decoy.Redirect(443).ServeHTTP(w, r)
		if w.Code == 400 {
			return
		}
		to, err := r.URL.Parse(w.Header().Get("Location"))
		if err != nil || to.Scheme != "https" || to.User != nil || to.Port() != "" || !strings.Contains(host, to.Hostname()) {
			t.Errorf("host %q, target %q lead to %q: %v", host, target, w.Header().Get("Location"), err)
		}
	})
}
