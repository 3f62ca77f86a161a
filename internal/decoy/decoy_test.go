package decoy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/decoy/smallsite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var base = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func mustNew(t *testing.T, c decoy.Config) http.Handler {
	t.Helper()
	h, err := decoy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// serve serves a handler over TLS, by HTTP/2 or HTTP/1.1.
func serve(t *testing.T, h http.Handler, h2 bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.StartTLS()
	t.Cleanup(s.Close)
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

// answer is everything a visitor sees of a response but its date.
func answer(t *testing.T, s *httptest.Server, method, target string, header http.Header) string {
	t.Helper()
	path, query, _ := strings.Cut(target, "?")
	decoded, err := url.PathUnescape(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL, strings.NewReader(map[string]string{"POST": "a=b"}[method]))
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = decoded, path, query
	r.Header = header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	got, err := s.Client().Do(r)
	if err != nil {
		return "error" // both must fail alike; the texts have addresses
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	got.Header.Del("Date")
	text := fmt.Sprintf("%s %s %v %d %q %v", got.Proto, got.Status, got.Header, got.ContentLength, body, err)
	// The boundary of several ranges is random.
	return boundary.ReplaceAllString(text, "boundary")
}

var boundary = regexp.MustCompile(`[0-9a-f]{60}`)

// requests are what visitors and probers send. %s stands for a page below the root and for another file.
func requests(page, other string) (all []struct {
	method, target string
	header         http.Header
}) {
	add := func(method, target string, header ...string) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		all = append(all, struct {
			method, target string
			header         http.Header
		}{method, target, h})
	}
	targets := []string{"/", "/" + page, "/" + other, "/robots.txt", "/absent", "/absent/", "/index.html", "/index.html/", "/" + page + "/", "//",
		"///", "/../", "/../../etc/passwd", "/./", "/a/../", "/%2e%2e/", "/%2e%2e%2f%2e%2e%2fetc/passwd", "/..%2f", "/%2f", "/%5c..%5c",
		"/%00", "/" + other + "%00", "/%ff%fe", "/%0d%0aX: y", "/" + other + "/x", "/" + page + "/../../../../../", "/?q=1", "/" + page + "?a=b&c", "/*",
		"/" + strings.Repeat("a", 300), "/" + strings.Repeat("b/", 2000), "/.git", "/.git/", "/.git/config", "/.env", "/sub/.env", "/.well-known/",
		"/.well-known/security.txt", "/sub/../.git/config", "/INDEX.HTML", "/wp-login.php", "/favicon.ico", "/.../", "/~", "/:80"}
	for _, target := range targets {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "get"} {
			add(method, target)
		}
	}
	for _, target := range []string{"/", "/" + other} {
		for _, value := range []string{"bytes=0-0", "bytes=0-9,20-29", "bytes=-5", "bytes=5-", "bytes=99999999-", "bytes=9-1", "lines=1-2", "bytes=0-1000000",
			"bytes=" + strings.Repeat("0-1,", 500) + "0-1"} {
			add("GET", target, "Range", value)
			add("HEAD", target, "Range", value)
			add("GET", target, "Range", value, "If-Range", base.Format(http.TimeFormat))
		}
		for _, when := range []time.Time{base, base.AddDate(-20, 0, 0), base.AddDate(20, 0, 0)} {
			add("GET", target, "If-Modified-Since", when.Format(http.TimeFormat))
			add("GET", target, "If-Unmodified-Since", when.Format(http.TimeFormat))
			add("POST", target, "If-Modified-Since", when.Format(http.TimeFormat))
		}
		add("GET", target, "If-None-Match", "*")
		add("GET", target, "If-None-Match", `"x"`)
		add("GET", target, "If-Match", `"x"`)
		add("GET", target, "Accept-Encoding", "gzip, br")
		add("GET", target, "Expect", "100-continue")
	}
	return all
}

func compare(t *testing.T, got, want http.Handler, page, other string) {
	t.Helper()
	for _, h2 := range []bool{false, true} {
		g, w := serve(t, got, h2), serve(t, want, h2)
		for _, r := range requests(page, other) {
			a, b := answer(t, g, r.method, r.target, r.header), answer(t, w, r.method, r.target, r.header)
			if a != b {
				t.Errorf("http2 %v, %s %.80s %v:\ngot  %.400s\nwant %.400s", h2, r.method, r.target, r.header, a, b)
			}
			if strings.Contains(strings.ToLower(a), "godwit") {
				t.Errorf("http2 %v, %s %.80s: the answer names us: %.400s", h2, r.method, r.target, a)
			}
		}
	}
}

// files are a generated site's.
func files(t *testing.T, site fs.FS) fstest.MapFS {
	t.Helper()
	all := fstest.MapFS{}
	err := fs.WalkDir(site, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(site, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[name] = &fstest.MapFile{Data: body, ModTime: info.ModTime(), Mode: 0o444}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// aPage is a page below the root, if there is one, and another file.
func aPage(all fstest.MapFS) (page, other string) {
	page, other = "index.html", "robots.txt"
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasSuffix(name, ".html") && name != "index.html" {
			page = strings.TrimSuffix(name, "index.html")
		}
		if strings.HasSuffix(name, ".css") || strings.HasSuffix(name, ".svg") {
			other = name
		}
	}
	return strings.TrimSuffix(page, "/"), other
}

// TestSiteAsFileServer: a generated site without a cookie answers as Go's file server does that has the same files in
// memory, as embedded ones.
func TestSiteAsFileServer(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		seed := [32]byte{byte(i)}
		all := files(t, smallsite.New(seed, base))
		page, other := aPage(all)
		compare(t, mustNew(t, decoy.Config{Seed: seed, Base: base}), http.FileServerFS(all), page, other)
	}
}

// TestDirectoryAsFileServer: a directory answers as http.Dir does, but for what is not for the public.
func TestDirectoryAsFileServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := files(t, smallsite.New([32]byte{7}, base))
	all[".well-known/index.html"] = &fstest.MapFile{Data: []byte("x"), ModTime: base}
	all[".well-known/security.txt"] = &fstest.MapFile{Data: []byte("Contact: x"), ModTime: base}
	all["sub/index.html"] = &fstest.MapFile{Data: []byte("<p>y"), ModTime: base}
	for name, f := range all {
		put(t, dir, name, string(f.Data), f.ModTime)
	}
	page, other := aPage(all)
	compare(t, mustNew(t, decoy.Config{Kind: decoy.Directory, Directory: dir}), http.FileServer(http.Dir(dir)), page, other)
}

// TestEmptyAsServer: nothing is what Go serves when it is given nothing.
func TestEmptyAsServer(t *testing.T) {
	t.Parallel()
	h := mustNew(t, decoy.Config{Kind: decoy.Empty})
	compare(t, h, http.NewServeMux(), "a", "b.css")
	if got := answer(t, serve(t, h, true), "GET", "/", nil); !strings.Contains(got, "404 page not found") {
		t.Errorf("it says %s", got)
	}
}

// TestRawRequests: what no client library sends is answered alike, too, to the last byte.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	seed := [32]byte{3}
	all := files(t, smallsite.New(seed, base))
	pairs := map[string][2]http.Handler{
		"site":  {mustNew(t, decoy.Config{Seed: seed, Base: base}), http.FileServerFS(all)},
		"empty": {mustNew(t, decoy.Config{Kind: decoy.Empty}), http.NewServeMux()},
	}
	const end = " HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
	for what, pair := range pairs {
		got, want := httptest.NewServer(pair[0]), httptest.NewServer(pair[1])
		defer got.Close()
		defer want.Close()
		for _, request := range []string{"OPTIONS *" + end, "GET *" + end, "CONNECT b.example:443" + end, "CONNECT /" + end, "GET http://b.example/" + end,
			"GET http:x" + end, "GET /../../x" + end, "GET //b.example/.." + end, "GET /\x00" + end, "GET x" + end, "TRACE /" + end, "PRI *" + end,
			"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", "GET /index.html HTTP/1.0\r\n\r\n", "nonsense\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
			if a, b := raw(t, got, request), raw(t, want, request); a != b {
				t.Errorf("%s, %q:\ngot  %.300q\nwant %.300q", what, request, a, b)
			}
		}
	}
}

var date = regexp.MustCompile(`Date: [^\r]*`)

func raw(t *testing.T, s *httptest.Server, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(bufio.NewReader(c))
	return fmt.Sprint(date.ReplaceAllString(string(b), "Date: "), err)
}

func put(t *testing.T, dir, name, content string, changed time.Time) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, changed, changed); err != nil {
		t.Fatal(err)
	}
}

// TestDirectoryKeeps: what is not for the public is answered as what is not there, byte for byte.
func TestDirectoryKeeps(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "secret.txt", "secret", base)
	put(t, outside, "index.html", "secret", base)
	put(t, dir, "index.html", "home", base)
	put(t, dir, "real.txt", "real", base)
	for _, name := range []string{".git/config", ".git/index.html", ".env", "sub/.env", "sub/.hidden/index.html", "nothing/file.txt", "odd/index.html/x"} {
		put(t, dir, name, "secret", base)
	}
	put(t, dir, "sub/.well-known/x", "secret", base)
	paths := []string{"/.git", "/.git/", "/.git/config", "/.env", "/sub/.env", "/sub/.hidden/", "/sub/.hidden", "/sub/", "/sub", "/nothing", "/nothing/",
		"/sub/.well-known/x", "/odd/", "/odd"}
	if runtime.GOOS != "windows" {
		for link, to := range map[string]string{"out.txt": filepath.Join(outside, "secret.txt"), "out": outside, "up": "..", "loop": "loop2", "loop2": "gone",
			"in.txt": "real.txt"} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		paths = append(paths, "/out.txt", "/out", "/out/", "/out/secret.txt", "/up", "/up/", "/loop")
	}
	h := mustNew(t, decoy.Config{Kind: decoy.Directory, Directory: dir})
	for _, h2 := range []bool{false, true} {
		s := serve(t, h, h2)
		for _, method := range []string{"GET", "HEAD", "POST"} {
			want := answer(t, s, method, "/absent", nil)
			for _, path := range paths {
				if got := answer(t, s, method, path, nil); got != want {
					t.Errorf("%s %s: %s, want %s", method, path, got, want)
				}
			}
		}
		if runtime.GOOS != "windows" && !strings.Contains(answer(t, s, "GET", "/in.txt", nil), `"real"`) {
			t.Error("a link within the directory is not followed")
		}
		if got := answer(t, s, "GET", "/nothing/file.txt", nil); !strings.Contains(got, `"secret"`) {
			t.Errorf("a file in a directory without index: %s", got)
		}
	}
}

// TestDirectoryThatIsNone: New says so.
func TestDirectoryThatIsNone(t *testing.T) {
	t.Parallel()
	put(t, t.TempDir(), "file", "x", base)
	for _, dir := range []string{filepath.Join(t.TempDir(), "absent"), os.Args[0]} {
		if _, err := decoy.New(decoy.Config{Kind: decoy.Directory, Directory: dir}); err == nil {
			t.Errorf("%s is taken for a directory", dir)
		}
	}
	if _, err := decoy.New(decoy.Config{Kind: "shop"}); err == nil {
		t.Error("any kind will do")
	}
}

// TestCookie: pages set a session cookie where there is none, and nothing else does.
func TestCookie(t *testing.T) {
	t.Parallel()
	seed := [32]byte{5}
	all := files(t, smallsite.New(seed, base))
	for _, length := range []int{1, 2, 3, 4, 476, 480, 555, 556} {
		h := mustNew(t, decoy.Config{Seed: seed, Base: base, CookieName: "_x_session", CookieLen: length})
		plain := mustNew(t, decoy.Config{Seed: seed, Base: base})
		seen := map[string]bool{}
		paths := []string{"/", "/index.html", "/absent", "/absent/", "//", "/../", "/.git/config"}
		for name := range all {
			paths = append(paths, "/"+name, "/"+name+"/", "/"+strings.TrimSuffix(name, "/index.html"), "/"+strings.TrimSuffix(name, "index.html"))
		}
		for _, path := range paths {
			for _, method := range []string{"GET", "HEAD"} {
				r := httptest.NewRequest(method, "https://a.example/", nil)
				r.URL.Path = path
				got, want := httptest.NewRecorder(), httptest.NewRecorder()
				h.ServeHTTP(got, r)
				plain.ServeHTTP(want, r)
				page := want.Code == 200 && strings.HasPrefix(want.Header().Get("Content-Type"), "text/html")
				cookies := got.Result().Cookies()
				if page != (len(cookies) == 1) {
					t.Fatalf("%s %s: page %v, cookies %v", method, path, page, cookies)
				}
				if !page {
					continue
				}
				c := cookies[0]
				if c.Name != "_x_session" || len(c.Value) != length || c.Path != "/" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode ||
					c.MaxAge != 30*24*60*60 || !c.Expires.IsZero() || c.Domain != "" || strings.Trim(c.Value, urlAlphabet) != "" {
					t.Fatalf("the cookie is %q", got.Header().Get("Set-Cookie"))
				}
				if length > 8 && seen[c.Value] {
					t.Fatal("two visitors have one cookie")
				}
				seen[c.Value] = true
				got.Header().Del("Set-Cookie")
				if fmt.Sprint(got.Header()) != fmt.Sprint(want.Header()) || got.Body.String() != want.Body.String() {
					t.Fatalf("%s: the cookie changed more than itself", path)
				}
				r.AddCookie(&http.Cookie{Name: "_x_session", Value: "anything"})
				again := httptest.NewRecorder()
				h.ServeHTTP(again, r)
				if len(again.Result().Cookies()) != 0 {
					t.Fatalf("%s: a visitor who has a cookie gets another", path)
				}
			}
		}
	}
	for name, length := range map[string]int{"a b": 500, "a=": 500, "a": 0, "b": 5000, "c": -1} {
		if _, err := decoy.New(decoy.Config{Seed: seed, Base: base, CookieName: name, CookieLen: length}); err == nil {
			t.Errorf("cookie %q of %d bytes is taken", name, length)
		}
	}
}

const urlAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func TestCookieFor(t *testing.T) {
	t.Parallel()
	names, lengths := map[string]int{}, map[int]int{}
	h := sha256.New()
	for i := range 2000 {
		name, length := decoy.CookieFor(sha256.Sum256([]byte(fmt.Sprint(i))))
		if err := (&http.Cookie{Name: name, Value: "x"}).Valid(); err != nil || strings.Contains(strings.ToLower(name), "godwit") {
			t.Fatalf("name %q: %v", name, err)
		}
		if length < 476 || length > 556 || length%4 != 0 {
			t.Fatalf("length %d", length)
		}
		names[name]++
		lengths[length]++
		fmt.Fprintln(h, name, length)
	}
	for name, n := range names {
		if n > 60 {
			t.Errorf("%d of 2000 gateways call it %q", n, name)
		}
	}
	if len(names) < 800 || len(lengths) != 21 {
		t.Errorf("%d names, %d lengths", len(names), len(lengths))
	}
	// Clients derive the same: a change here locks out all older ones.
	const want = "330853676cbbdd5009c8af4dc4a8c82ff6079fc1c5ea7e8814a51a2699b612d0"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("names and lengths have changed: %s", got)
	}
}

// TestMemory: a site is small, whatever the seed.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all []http.Handler
	const n = 20
	for i := range n {
		all = append(all, mustNew(t, decoy.Config{Seed: [32]byte{9, byte(i)}, Base: base, CookieName: "sid", CookieLen: 500}))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(all)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; each > 1<<20 {
		t.Errorf("a site takes %d bytes", each)
	}
}

// TestStableAcrossRestarts: the same seed and base time are the same site.
func TestStableAcrossRestarts(t *testing.T) {
	t.Parallel()
	a, b := files(t, smallsite.New([32]byte{1}, base)), files(t, smallsite.New([32]byte{1}, base))
	if len(a) != len(b) {
		t.Fatal("another number of files")
	}
	for name, f := range a {
		if g := b[name]; g == nil || !bytes.Equal(f.Data, g.Data) || !f.ModTime.Equal(g.ModTime) {
			t.Errorf("%s is another file", name)
		}
	}
}
