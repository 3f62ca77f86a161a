package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// curl prepares curl on the client's machine.
func (w *world) curl(args ...string) (code int, out string) {
	w.t.Helper()
	return run(w.t, w.client.command("curl", append([]string{"--silent", "--show-error", "--max-time", "60",
		"--cacert", w.web.ca}, args...)...))
}

// The ways curl can be told to use the one port.
var (
	socksName = []string{"--socks5-hostname", proxyAddr}
	socksAddr = []string{"--socks5", proxyAddr}
	httpProxy = []string{"--proxy", "http://" + proxyAddr}
	httpPipe  = []string{"--proxy", "http://" + proxyAddr, "--proxytunnel"}
)

// TestCurl fetches pages the ways that people configure their programs.
func TestCurl(t *testing.T) {
	need(t, "curl")
	w := up(t)
	tests := []struct {
		name string
		args []string
		urls []string
		want string // of each URL
	}{
		{"socks name http", socksName, []string{"http://site.test/hello"}, "hello over HTTP/1.1 for site.test"},
		{"socks name https", append(socksName, "--http1.1"), []string{"https://site.test/hello"},
			"hello over HTTP/1.1 for site.test"},
		{"socks name http2", append(socksName, "--http2"), []string{"https://site.test/hello"},
			"hello over HTTP/2.0 for site.test"},
		{"socks address", socksAddr, []string{"https://" + webAddr + "/hello"}, "hello over HTTP/2.0 for " + webAddr},
		{"socks IPv6 address", socksName, []string{"https://[" + webAddr6 + "]/hello"},
			"hello over HTTP/2.0 for [" + webAddr6 + "]"},
		{"socks IPv4 name", socksName, []string{"https://v4.test/hello"}, "hello over HTTP/2.0 for v4.test"},
		{"socks IPv6 name", socksName, []string{"https://v6.test/hello"}, "hello over HTTP/2.0 for v6.test"},
		{"socks upper-case name", socksName, []string{"http://SITE.test/hello"}, "hello over HTTP/1.1 for SITE.test"},
		{"http proxy http", httpProxy, []string{"http://site.test/hello"}, "hello over HTTP/1.1 for site.test"},
		{"http proxy https", httpProxy, []string{"https://site.test/hello"}, "hello over HTTP/2.0 for site.test"},
		{"http proxy IPv6 address", httpProxy, []string{"http://[" + webAddr6 + "]/hello"},
			"hello over HTTP/1.1 for [" + webAddr6 + "]"},
		{"http proxy tunnel", httpPipe, []string{"http://site.test/hello"}, "hello over HTTP/1.1 for site.test"},
		{"http proxy three pages, two sites", httpProxy,
			[]string{"http://site.test/hello", "http://site.test/hello", "http://" + webAddr + "/hello"}, "hello over HTTP/1.1"},
		{"socks slow", append(socksName, "--no-buffer"), []string{"http://site.test/slow"},
			"line 0\nline 1\nline 2\nline 3\nline 4\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !w.ipv6 && strings.Contains(tt.name, "IPv6") {
				t.Skip("needs IPv6, which this kernel has not")
			}
			code, out := w.curl(append(tt.args, tt.urls...)...)
			if code != 0 || strings.Count(out, tt.want) != len(tt.urls) {
				t.Errorf("curl ended with %d and %q, want %q from each of %q", code, out, tt.want, tt.urls)
			}
		})
	}
}

// TestCurlBulk moves 20 MB each way and compares.
func TestCurlBulk(t *testing.T) {
	need(t, "curl")
	w := up(t)
	const size = 20_000_000
	sum := sumOf(t, "bulk", size)
	upload := filepath.Join(w.dir, "upload")
	contentFile(t, upload, "bulk", size)
	for name, proxy := range map[string][]string{"socks": socksName, "http proxy": httpProxy} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" "+scheme+" down", func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "download")
				code, out := w.curl(append(proxy, "--output", file,
					fmt.Sprintf("%s://site.test/bytes/bulk/%d", scheme, size))...)
				if code != 0 {
					t.Fatalf("curl ended with %d: %s", code, out)
				}
				if got := sumFile(t, file); got != sum {
					t.Errorf("what arrived has SHA-256 %s, want %s", got, sum)
				}
			})
			t.Run(name+" "+scheme+" up", func(t *testing.T) {
				code, out := w.curl(append(proxy, "--header", "Expect:", "--data-binary", "@"+upload,
					scheme+"://site.test/sum")...)
				if want := fmt.Sprintf("%d %s", size, sum); code != 0 || out != want {
					t.Errorf("curl ended with %d and %q, want %q", code, out, want)
				}
			})
		}
	}
}

// TestCurlStreams sees the first line of a slow page long before the last.
func TestCurlStreams(t *testing.T) {
	need(t, "curl")
	w := up(t)
	for name, proxy := range map[string][]string{"socks": socksName, "http proxy": httpProxy} {
		code, out := w.curl(append(proxy, "--output", "/dev/null", "--write-out", "%{time_starttransfer} %{time_total}",
			"http://site.test/slow")...)
		first, total, _ := strings.Cut(out, " ")
		f, err1 := strconv.ParseFloat(first, 64)
		l, err2 := strconv.ParseFloat(total, 64)
		if code != 0 || err1 != nil || err2 != nil || l-f < 0.6 {
			t.Errorf("%s: curl ended with %d; first and last byte after %q s, want 0.8 s between them", name, code, out)
		}
	}
}

// TestCurlErrors hears the truth about what cannot be reached, and soon.
func TestCurlErrors(t *testing.T) {
	need(t, "curl")
	w := up(t)
	// A server on the gateway's own loopback, and one at its own address: neither is anyone's but the gateway's.
	for _, addr := range []string{"127.0.0.1:8080", "192.0.2.1:8080"} {
		l := w.gateway.listen(t, addr)
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") }))
		}()
	}
	// curl's exit codes: 5 and 6 unknown name, 7 no connection, 22 an HTTP error, 35 and 52 and 56 cut after it, 97 the
	// SOCKS server said no, with its reply code (RFC 1928 §6) in the message.
	tests := []struct {
		name  string
		args  []string
		url   string
		codes []int
		want  string
	}{
		{"refused address", socksName, "http://" + net.JoinHostPort(webAddr, "81") + "/", []int{97}, "(5)"},
		{"refused address on a web port", socksName, "http://" + dnsAddr + "/", []int{97}, "(5)"},
		{"refused name", socksName, "http://site.test:81/", []int{97}, "(5)"},
		{"refused name on a web port", socksName, "http://ns.test/", []int{35, 52, 55, 56, 97}, ""},
		{"unknown name", socksName, "http://absent.test:81/", []int{97}, "(4)"},
		{"unknown name on a web port", socksName, "http://absent.test/", []int{35, 52, 55, 56, 97}, ""},
		{"gateway's loopback", socksName, "http://127.0.0.1:8080/", []int{97}, "(2)"},
		{"gateway's loopback, as IPv6", socksName, "http://[::ffff:127.0.0.1]:8080/", []int{97}, "(2)"},
		{"gateway's loopback, by name", socksName, "http://localhost:8080/", []int{97}, ""},
		{"private address", socksName, "http://10.1.2.3/", []int{97}, "(2)"},
		{"link-local address", socksName, "http://169.254.169.254/", []int{97}, "(2)"},
		{"mail", socksName, "http://" + webAddr + ":25/", []int{97}, "(2)"},
		{"http proxy, refused", append(httpProxy, "--fail"), "http://site.test:81/", []int{22}, "502"},
		{"http proxy, unknown name", append(httpProxy, "--fail"), "http://absent.test/", []int{22}, "50"},
		{"http proxy, denied", append(httpProxy, "--fail"), "http://127.0.0.1:8080/", []int{22}, "403"},
		{"http proxy tunnel, refused", httpPipe, "https://site.test:81/", []int{56}, "502"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			code, out := w.curl(append(tt.args, "--noproxy", "", tt.url)...)
			took := time.Since(start)
			ok := false
			for _, c := range tt.codes {
				ok = ok || c == code
			}
			if !ok || !strings.Contains(out, tt.want) {
				t.Errorf("curl ended with %d and %q, want one of %d and %q", code, out, tt.codes, tt.want)
			}
			if took > 10*time.Second {
				t.Errorf("it took %v to hear that", took)
			}
		})
	}
}

// TestCurlMany has fifty programs at once.
func TestCurlMany(t *testing.T) {
	need(t, "curl")
	w := up(t)
	list := filepath.Join(w.dir, "urls")
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "url = http://site.test/bytes/%d/100000\noutput = %s/%d.out\n", i, w.dir, i)
	}
	if err := os.WriteFile(list, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := w.curl(append(socksName, "--parallel", "--parallel-immediate", "--parallel-max", "50",
		"--config", list)...); code != 0 {
		t.Fatalf("curl ended with %d: %s", code, out)
	}
	for i := range 50 {
		want := sumOf(t, strconv.Itoa(i), 100000)
		if got := sumFile(t, filepath.Join(w.dir, strconv.Itoa(i)+".out")); got != want {
			t.Errorf("page %d has SHA-256 %s, want %s", i, got, want)
		}
	}
}
