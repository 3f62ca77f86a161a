package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"
)

// httpTo opens at through r by CONNECT.
func httpTo(t testing.TB, r *running, at string) *net.TCPConn {
	t.Helper()
	c := r.dial(t)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", at, at)
	mustRead(t, c, []byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	return c
}

// through is a client that uses r as its HTTP proxy.
func through(t testing.TB, r *running, user *url.Userinfo) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr, User: user}),
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // httptest's certificates
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// site is a test server that is also known as site.example.
func site(t testing.TB, h http.HandlerFunc) (s *httptest.Server, name string) {
	t.Helper()
	s = httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s, strings.Replace(s.URL, "127.0.0.1", "site.example", 1)
}

// raw is a site that reads one request's header and then goes by hand.
func raw(t testing.TB, handle func(c *net.TCPConn, header string, body *bufio.Reader)) string {
	t.Helper()
	at := listen(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			var header strings.Builder
			for !strings.HasSuffix(header.String(), "\r\n\r\n") {
				line, err := r.ReadString('\n')
				header.WriteString(line)
				if err != nil {
					return
				}
			}
			handle(c, header.String(), r)
		}
	})
	return at.String()
}

func TestHTTPClient(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := start(t, w, Config{})
	echo := func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("Trailer", "X-Trail")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Trail", fmt.Sprint(n))
	}
	_, plain := site(t, echo)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)

	for _, tt := range []struct{ url, proto string }{
		{plain, "HTTP/1.1"},
		{secure.URL, "HTTP/2.0"},
		{strings.Replace(secure.URL, "127.0.0.1", "site.example", 1), "HTTP/2.0"},
	} {
		client := through(t, r, nil)
		for range 3 {
			body := bytes.Repeat([]byte("godwit "), 100_000)
			resp, err := client.Post(tt.url+"/path", "text/plain", struct{ io.Reader }{bytes.NewReader(body)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) || resp.StatusCode != 200 {
				t.Fatalf("%s: %d, %d bytes, %v", tt.url, resp.StatusCode, len(got), err)
			}
			if resp.Header.Get("X-Proto") != tt.proto || resp.Trailer.Get("X-Trail") != fmt.Sprint(len(body)) {
				t.Errorf("%s: header %v, trailer %v", tt.url, resp.Header, resp.Trailer)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.opened) != 3 {
		t.Errorf("%d streams for three clients with three requests each: %v", len(w.opened), w.opened)
	}
}

// TestVerbatim compares what the site sees and what the application gets with what each sent, to the byte.
func TestVerbatim(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	saw := make(chan string, 1) // the one request
	at := raw(t, func(c *net.TCPConn, header string, _ *bufio.Reader) {
		saw <- header
		io.WriteString(c, "HTTP/1.1 200 Fine\r\nContent-Length: 6\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"+
			"Keep-Alive: 5\r\nX-Kept: 2\r\nProxy-Authenticate: Basic\r\n\r\n<html>")
	})
	c := r.dial(t)
	fmt.Fprintf(c, "GET http://%s/a%%2Fb//c?x=1;y=%%zz HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: br\r\n"+
		"Connection: keep-alive, X-Mine, upgrade\r\nX-Mine: hop\r\nUpgrade: h2c\r\nHttp2-Settings: x\r\nKeep-Alive: 3\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eHg6eXk=\r\nTe: trailers, deflate\r\n"+
		"X-Forwarded-For: 192.0.2.7\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n", at, at)
	got := <-saw
	lines := strings.Split(strings.TrimSuffix(got, "\r\n\r\n"), "\r\n")
	want := []string{
		"GET /a%2Fb//c?x=1;y=%zz HTTP/1.1",
		"Host: " + at,
		"Accept-Encoding: br",
		"Http2-Settings: x",
		"Te: trailers",
		"X-Forwarded-For: 192.0.2.7",
		"X-Two: 1",
		"X-Two: 2",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("the site saw\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	mustRead(t, c, []byte("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Kept: 2\r\n\r\n<html>"))
}

func TestHTTP10(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "first ")
		w.(http.Flusher).Flush() // chunked to the proxy
		io.WriteString(w, r.Proto+" "+r.Host)
	})
	c := r.dial(t)
	fmt.Fprintf(c, "GET %s/ HTTP/1.0\r\n\r\n", name)
	got, err := io.ReadAll(c)
	header, body, _ := strings.Cut(string(got), "\r\n\r\n")
	if err != nil || !strings.HasPrefix(header, "HTTP/1.0 200 OK\r\n") || strings.Contains(header, "chunked") ||
		body != "first HTTP/1.1 "+strings.TrimPrefix(name, "http://") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := start(t, w, Config{KeepAlive: 300 * time.Millisecond})
	_, one := site(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "one") })
	_, two := site(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "two") })
	c := r.dial(t)
	br := bufio.NewReader(c)
	for range 3 {
		for body, url := range map[string]string{"one": one, "two": two} {
			req, _ := http.NewRequest("GET", url, nil)
			req.WriteProxy(c)
			resp, err := http.ReadResponse(br, req)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); string(got) != body || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	w.mu.Lock()
	if len(w.opened) != 2 {
		t.Errorf("%d streams for two sites", len(w.opened))
	}
	w.mu.Unlock()
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("idle: %v, want EOF", err)
	}
	eventually(t, "the streams close with the connection", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.live == 0
	})
}

// TestConnectionsToSitesAreNotShared: a site that logs in the connection must never take one application for another.
func TestConnectionsToSitesAreNotShared(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	ask := func(c net.Conn, br *bufio.Reader) string {
		req, _ := http.NewRequest("GET", name, nil)
		req.WriteProxy(c)
		resp, err := http.ReadResponse(br, req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		return string(got)
	}
	a, b := r.dial(t), r.dial(t)
	ra, rb := bufio.NewReader(a), bufio.NewReader(b)
	first, other, again := ask(a, ra), ask(b, rb), ask(a, ra)
	if first != again || first == other {
		t.Errorf("a: %s, b: %s, a again: %s", first, other, again)
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		io.Copy(w, r.Body) // net/http sends the 100 here
	})
	for path, want := range map[string]string{"/yes": "HTTP/1.1 100 Continue\r\n\r\n", "/no": "HTTP/1.1 417 "} {
		c := r.dial(t)
		fmt.Fprintf(c, "PUT %s%s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", name, path)
		mustRead(t, c, []byte(want))
		if path == "/yes" {
			// One 100 is enough, from whichever of the two servers.
			c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
			if n, _ := c.Read(make([]byte, 1)); n != 0 {
				t.Error("an answer after the 100, before the body")
			}
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, "body")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); string(got) != "body" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

func TestEarlyHintsPassOn(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "done")
	})
	var hint string
	req, _ := http.NewRequest("GET", name, nil)
	req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hint = fmt.Sprint(code, h.Get("Link"))
			return nil
		},
	}))
	resp, err := through(t, r, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if hint != "103</style.css>" {
		t.Errorf("hint %q", hint)
	}
}

func TestHTTPLogin(t *testing.T) {
	t.Parallel()
	auth, err := NewAuth("ann", "se:cret")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	r := start(t, w, Config{Auth: auth})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("Proxy-Authorization")+"in")
	})
	resp, err := through(t, r, url.UserPassword("ann", "se:cret")).Get(name)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != "in" {
		t.Errorf("%d %q", resp.StatusCode, got)
	}
	for _, user := range []*url.Userinfo{nil, url.UserPassword("ann", "x"), url.User("ann")} {
		resp, err := through(t, r, user).Get(name)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 407 || resp.Header.Get("Proxy-Authenticate") == "" {
			t.Errorf("%v: %d %v", user, resp.StatusCode, resp.Header)
		}
	}
	c := r.dial(t)
	fmt.Fprintf(c, "CONNECT site.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	mustRead(t, c, []byte("HTTP/1.1 407 "))
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.opened) != 1 {
		t.Errorf("opened %v", w.opened)
	}
}

// TestSiteClosesKeptConnection: a request on a connection the site has closed meanwhile is sent again, unseen.
func TestSiteClosesKeptConnection(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	at := raw(t, func(c *net.TCPConn, _ string, _ *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
	})
	client := through(t, r, nil)
	for range 20 {
		resp, err := client.Get("http://" + at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(got) != "ok" || err != nil {
			t.Fatalf("%d %q %v", resp.StatusCode, got, err)
		}
	}
}
