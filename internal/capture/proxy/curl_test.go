package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// curl runs curl and returns what it printed and its exit code.
func curl(t *testing.T, args ...string) (out string, exit int) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-sSk", "--max-time", "20"}, args...)...)
	cmd.Env = append(os.Environ(), "no_proxy=", "NO_PROXY=", "http_proxy=", "https_proxy=", "ALL_PROXY=")
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func TestCurl(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.fail["denied.example"], w.fail["late.example"] = flow.CodeDenied, flow.CodeTimeout
	r := start(t, w, Config{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Proto, r.Host, len(all))
	}
	_, plain := site(t, handler)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	named := strings.Replace(secure.URL, "127.0.0.1", "site.example", 1)
	host := func(url string) string { _, h, _ := strings.Cut(url, "//"); return h }
	big := filepath.Join(t.TempDir(), "big") // curl asks to continue before it sends so much
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		args []string
		exit int
		out  string // in what curl prints
	}{
		{[]string{"--socks5-hostname", r.addr, named}, 0, "HTTP/2.0 " + host(named) + " 0"},
		{[]string{"--socks5-hostname", r.addr, "--http1.1", named}, 0, "HTTP/1.1 " + host(named) + " 0"},
		{[]string{"--socks5", r.addr, secure.URL}, 0, "HTTP/2.0 " + host(secure.URL) + " 0"},
		{[]string{"--socks5-hostname", r.addr, plain}, 0, "HTTP/1.1 " + host(plain) + " 0"},
		{[]string{"--proxy", "http://" + r.addr, named}, 0, "HTTP/2.0 " + host(named) + " 0"},
		{[]string{"--proxy", "http://" + r.addr, plain}, 0, "HTTP/1.1 " + host(plain) + " 0"},
		{[]string{"--proxy", "http://" + r.addr, "--http2", plain}, 0, "HTTP/1.1 " + host(plain) + " 0"},
		{[]string{"--proxy", "http://" + r.addr, "--http1.0", plain}, 0, "HTTP/1.1 " + host(plain) + " 0"},
		{[]string{"--proxy1.0", "http://" + r.addr, named}, 0, "HTTP/2.0 " + host(named) + " 0"},
		{[]string{"--proxy", "http://" + r.addr, "-T", big, plain}, 0, fmt.Sprint(3 << 20)},
		{[]string{"--proxy", "http://" + r.addr, "-T", big, named}, 0, fmt.Sprint(3 << 20)},
		{[]string{"--proxy", "http://" + r.addr, "-X", "POST", "-H", "Transfer-Encoding: chunked", "--data-binary",
			"@" + big, plain, plain}, 0, fmt.Sprint(3 << 20)},
		{[]string{"--socks5-hostname", r.addr, "-T", big, plain}, 0, fmt.Sprint(3 << 20)},
		{[]string{"--proxy", "http://" + r.addr, plain, plain, plain}, 0, "HTTP/1.1"},

		{[]string{"--socks5-hostname", r.addr, "http://denied.example:8080"}, 97, "(2)"},
		{[]string{"--socks5-hostname", r.addr, "http://late.example:8080"}, 97, "(6)"},
		{[]string{"--socks5-hostname", r.addr, "http://unknown.example:8080"}, 97, "(4)"},
		{[]string{"--proxy", "http://" + r.addr, "https://denied.example:8443"}, 56, "403"},
		{[]string{"--proxy", "http://" + r.addr, "https://late.example:8443"}, 56, "504"},
		{[]string{"--proxy", "http://" + r.addr, "http://late.example/"}, 0, "timed out"},
		{[]string{"--socks4", r.addr, "http://127.0.0.1:80"}, 97, ""},
		{[]string{"--socks4a", r.addr, "http://site.example:80"}, 97, ""},
		// An early answer that was wrong: the connection breaks, as if the site had hung up.
		{[]string{"--socks5-hostname", r.addr, "https://denied.example"}, 35, ""},
		{[]string{"http://" + r.addr + "/"}, 0, "This port is a proxy"},
	} {
		out, exit := curl(t, tt.args...)
		if exit != tt.exit || !strings.Contains(out, tt.out) {
			t.Errorf("curl %s: exit %d, want %d with %q\n%s", strings.Join(tt.args, " "), exit, tt.exit, tt.out, out)
		}
	}
}

func TestCurlLogin(t *testing.T) {
	t.Parallel()
	auth, err := NewAuth("ann", "secret")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, newWorld(), Config{Auth: auth})
	_, plain := site(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") })
	for _, tt := range []struct {
		proxy string
		out   string
	}{
		{"http://ann:secret@" + r.addr, "in"},
		{"socks5h://ann:secret@" + r.addr, "in"},
		{"http://ann:x@" + r.addr, "407"},
		{"http://" + r.addr, "407"},
		{"socks5h://ann:x@" + r.addr, "User was rejected"},
		{"socks5h://" + r.addr, "No authentication method"},
	} {
		if out, _ := curl(t, "--proxy", tt.proxy, plain); !strings.Contains(out, tt.out) {
			t.Errorf("--proxy %s: %s", tt.proxy, out)
		}
	}
	// HTTPS through it, with the login in CONNECT.
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") }))
	t.Cleanup(s.Close)
	if out, exit := curl(t, "--proxy", "http://ann:secret@"+r.addr, s.URL); out != "in" || exit != 0 {
		t.Errorf("%d %s", exit, out)
	}
}
