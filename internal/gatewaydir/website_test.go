package gatewaydir

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWebsiteSettings(t *testing.T) {
	t.Parallel()
	const head = "listen = [':443', '192.0.2.5:8443']\nendpoints = ['gw.example:443', '192.0.2.1:8443']\n[website]\n"
	for _, good := range []string{
		"", "kind = 'site'", "kind = 'empty'", "kind = 'directory'\ndirectory = '/srv/www'",
		"kind = 'proxy'\nupstream = 'http://127.0.0.1:8080'", "kind = 'proxy'\nupstream = 'http://[::1]:8080/blog'",
		"kind = 'proxy'\nupstream = 'https://site.example'\nforwarded_for = true", "kind = 'proxy'\nupstream = 'http://gw.example:8080'",
		"kind = 'proxy'\nupstream = 'http://192.0.2.5:443'", "kind = 'proxy'\nupstream = 'https://198.51.100.1:443'",
	} {
		if _, err := ParseSettings([]byte(head + good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, tt := range []struct{ text, want string }{
		{"kind = 'Site'", "field website.kind"},
		{"kind = 'directory'", "field website.directory: is empty"},
		{"kind = 'directory'\ndirectory = 'www'", "field website.directory"},
		{"directory = '/srv/www'", "field website.directory: is given, but"},
		{"kind = 'directory'\ndirectory = '/srv/www'\nupstream = 'http://a.example'", "field website.upstream: is given, but"},
		{"kind = 'empty'\nforwarded_for = true", "field website.forwarded_for"},
		{"kind = 'proxy'", "field website.upstream: is empty"},
		{"kind = 'proxy'\nupstream = 'a.example'", "field website.upstream"},
		{"kind = 'proxy'\nupstream = 'a.example:80'", "field website.upstream"},
		{"kind = 'proxy'\nupstream = 'ftp://a.example'", "field website.upstream"},
		{"kind = 'proxy'\nupstream = 'http://'", "has no host"},
		{"kind = 'proxy'\nupstream = 'http://:80'", "has no host"},
		{"kind = 'proxy'\nupstream = 'http://a.example:'", "port"},
		{"kind = 'proxy'\nupstream = 'http://a.example:99999'", "port"},
		{"kind = 'proxy'\nupstream = 'http://a.example/?x'", "field website.upstream"},
		{"kind = 'proxy'\nupstream = 'http://a.example/#x'", "field website.upstream"},
		{"kind = 'proxy'\nupstream = 'https://GW.example.'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'http://gw.example:443/x'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://192.0.2.1:8443'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://192.0.2.5:8443'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://localhost'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://127.0.0.9:443'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://[::1]'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://[::ffff:127.0.0.1]'", "this gateway itself"},
		{"kind = 'proxy'\nupstream = 'https://0.0.0.0'", "this gateway itself"},
	} {
		_, err := ParseSettings([]byte(head + tt.text))
		if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want it to say %q", tt.text, err, tt.want)
		}
	}
	_, err := ParseSettings([]byte(head + "kind = 'proxy'\nupstream = 'http://me:hunter2@a.example'"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password gives %v", err)
	}
}

// home is what a stranger gets on the front page.
func home(t *testing.T, d *Dir) *httptest.ResponseRecorder {
	t.Helper()
	h, err := d.Website()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "https://gw.example/", nil))
	return w
}

// A new gateway has a site that is its own, and has it again after a restart, to the last header but the cookie's value.
func TestWebsiteIsItsOwn(t *testing.T) {
	t.Parallel()
	p := Paths{State: t.TempDir()}
	d, _ := mustInit(t, p, "gw.example:443")
	first := home(t, d)
	again, err := p.Open(t.Context(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	second := home(t, again)
	other, _ := mustInit(t, Paths{State: t.TempDir()}, "gw.example:443")
	third := home(t, other)
	if first.Code != 200 || !bytes.Equal(first.Body.Bytes(), second.Body.Bytes()) ||
		first.Header().Get("Last-Modified") != second.Header().Get("Last-Modified") {
		t.Error("after a restart it is another site")
	}
	if bytes.Equal(first.Body.Bytes(), third.Body.Bytes()) {
		t.Error("two gateways have one site")
	}
	a, b := first.Result().Cookies(), second.Result().Cookies()
	if len(a) != 1 || len(b) != 1 || a[0].Name != b[0].Name || len(a[0].Value) != len(b[0].Value) || a[0].Value == b[0].Value {
		t.Errorf("the cookies are %v and %v", a, b)
	}
}

func TestWebsiteKinds(t *testing.T) {
	t.Parallel()
	d, _ := mustInit(t, Paths{State: t.TempDir()}, "gw.example:443")
	d.Settings.Website = WebsiteSettings{Kind: "empty"}
	if w := home(t, d); w.Code != 404 || w.Body.String() != "404 page not found\n" {
		t.Errorf("empty: %d %q", w.Code, w.Body)
	}
	www := t.TempDir()
	if err := os.WriteFile(filepath.Join(www, "index.html"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Settings.Website = WebsiteSettings{Kind: "directory", Directory: www}
	if w := home(t, d); w.Code != 200 || w.Body.String() != "mine" || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("directory: %d %v %q", w.Code, w.Header(), w.Body)
	}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "upstream") }))
	defer up.Close()
	d.Settings.Website = WebsiteSettings{Kind: "proxy", Upstream: up.URL}
	if w := home(t, d); w.Code != 200 || w.Body.String() != "upstream" || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("proxy: %d %v %q", w.Code, w.Header(), w.Body)
	}
}

// A directory that cannot be served is named, with the field.
func TestWebsiteDirectoryErrors(t *testing.T) {
	t.Parallel()
	p := Paths{State: filepath.Join(t.TempDir(), "state")}
	d, _ := mustInit(t, p, "gw.example:443")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(p.State, link); err != nil {
		t.Skip(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(t.TempDir(), "absent"): "absent",
		p.SettingsFile():                     "",
		p.State:                              "keys",
		filepath.Join(p.State, "keys"):       "keys",
		filepath.Dir(p.State):                "keys",
		link:                                 "keys",
		"/":                                  "keys",
	} {
		d.Settings.Website = WebsiteSettings{Kind: "directory", Directory: dir}
		_, err := d.Website()
		if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "field website.directory") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// The log of a proxy whose site is down says so, and no address.
func TestWebsiteUpstreamDown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var log bytes.Buffer
	p := Paths{State: t.TempDir()}
	mustInit(t, p, "gw.example:443")
	d, err := p.Open(t.Context(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.Settings.Website = WebsiteSettings{Kind: "proxy", Upstream: "http://" + l.Addr().String()}
	if w := home(t, d); w.Code != 502 || w.Body.Len() != 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "upstream") || strings.Contains(log.String(), "127.0.0.1") {
		t.Errorf("the log says %q", &log)
	}
}
