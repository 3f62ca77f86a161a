package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/flow"
)

func TestStatuses(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for code := flow.CodeRefused; code <= flow.CodeLocalShutdown; code++ {
		w.fail[fmt.Sprintf("code%d.example", code)] = code
	}
	r := start(t, w, Config{})
	want := map[flow.Code]int{
		flow.CodeRefused: 502, flow.CodeNetUnreach: 502, flow.CodeHostUnreach: 502, flow.CodeTimeout: 504,
		flow.CodeNameNotFound: 502, flow.CodeNameFailed: 503, flow.CodeDenied: 403, flow.CodeBusy: 429,
		flow.CodeBadTarget: 400, flow.CodeReset: 502, flow.CodeSessionLost: 503, flow.CodeMemory: 503,
		flow.CodeInternal: 502, flow.CodeLocalShutdown: 503,
	}
	for code := flow.CodeRefused; code <= flow.CodeLocalShutdown; code++ {
		host := fmt.Sprintf("code%d.example", code)
		for _, request := range []string{
			fmt.Sprintf("CONNECT %s:8443 HTTP/1.1\r\nHost: x\r\n\r\n", host),
			fmt.Sprintf("GET http://%s:8080/ HTTP/1.1\r\nHost: x\r\n\r\n", host),
			fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", host), // opened early, told the truth all the same
			fmt.Sprintf("POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsome", host),
			fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", host),
		} {
			c := r.dial(t)
			io.WriteString(c, request)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("%q: %v", request, err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != want[code] || !strings.Contains(string(body), code.String()) {
				t.Errorf("%q: %d, want %d\n%s", request, resp.StatusCode, want[code], body)
			}
			if s := strings.ToLower(string(body)); strings.Contains(s, "godwit") || strings.Contains(s, "detail") ||
				strings.Contains(s, "example") {
				t.Errorf("the answer tells too much: %s", body)
			}
			c.Close()
		}
	}
	if got := r.Stats().EarlyFailed; got != 0 {
		t.Errorf("%d early answers counted as wrong, of none", got)
	}
}

func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := start(t, w, Config{})
	for _, tt := range []struct{ send, want string }{
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "400 Bad Request"},
		{"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "400 Bad Request"},
		{"GET /http://site.example/ HTTP/1.1\r\nHost: site.example\r\n\r\n", "400 Bad Request"},
		{"GET //site.example/ HTTP/1.1\r\nHost: site.example\r\n\r\n", "400 Bad Request"},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" +
			"CONNECT site.example:22 HTTP/1.1\r\nHost: x", "400 Bad Request"},
		{"GET / HTTP/1.1\r\nHost: site.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "400 Bad Request"},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 Bad Request"},
		{"GET https://site.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"GET ftp://site.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"GET http:///path HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"GET http://site.example:0/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"GET http://site.example:65536/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"GET http://[fe80::1%25lo]/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"GET http://" + strings.Repeat("a", 254) + "/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"CONNECT site.example HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"CONNECT site.example:0 HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"CONNECT :443 HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"CONNECT http://site.example:443/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
		{"CONNECT site.example:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "400 Bad Request"},
		{"GARBAGE\r\n\r\n", "400 Bad Request"},
		{"GET http://site.example/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "431 "},
		{"GET http://site.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501 "},
	} {
		c := r.dial(t)
		io.WriteString(c, tt.send)
		c.CloseWrite()
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+tt.want) && !strings.HasPrefix(string(got), "HTTP/1.0 "+tt.want) ||
			bytes.Count(got, []byte("HTTP/1.")) != 1 {
			t.Errorf("%.60q: %.200q", tt.send, got)
		}
		if bytes.Contains(bytes.ToLower(got), []byte("godwit")) {
			t.Errorf("%.60q: the answer tells too much: %s", tt.send, got)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.opened) != 0 {
		t.Errorf("opened %v", w.opened)
	}
}

func TestSiteTalksNonsense(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	for said, want := range map[string]string{
		"SSH-2.0-x\r\n\r\n": "could not be understood",
		"":                  "closed the connection",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10):                         "could not be understood",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n": "could not be understood",
	} {
		at := raw(t, func(c *net.TCPConn, _ string, _ *bufio.Reader) {
			io.WriteString(c, said)
			c.CloseWrite()
		})
		for _, more := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
			if more != "" && strings.Contains(said, "101") {
				continue // that one is welcome
			}
			c := r.dial(t)
			fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n%s\r\n", at, more)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("%.30q %q: %v", said, more, err)
			}
			if got, _ := io.ReadAll(resp.Body); resp.StatusCode != 502 || !strings.Contains(string(got), want) {
				t.Errorf("%.30q %q: %d %s", said, more, resp.StatusCode, got)
			}
		}
	}
}
