package egress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// proxy is a small SOCKS5 server that really dials. It writes its answer and the destination's first bytes together.
type proxy struct {
	user, password string
	hosts          map[string]string // what its names resolve to
	mu             sync.Mutex
	asked          []string
}

func (p *proxy) handle(c net.Conn) {
	read := func(n int) []byte { b := make([]byte, n); _, _ = io.ReadFull(c, b); return b }
	hello := read(2)
	methods := read(int(hello[1]))
	switch {
	case p.user == "" && bytes.IndexByte(methods, 0) >= 0:
		_, _ = c.Write([]byte{5, 0})
	case p.user != "" && bytes.IndexByte(methods, 2) >= 0:
		_, _ = c.Write([]byte{5, 2})
		user := read(int(read(2)[1]))
		password := read(int(read(1)[0]))
		if string(user) != p.user || string(password) != p.password {
			_, _ = c.Write([]byte{1, 1})
			return
		}
		_, _ = c.Write([]byte{1, 0})
	default:
		_, _ = c.Write([]byte{5, 0xff})
		return
	}
	var host string
	switch req := read(4); req[3] {
	case 1:
		host = netip.AddrFrom4([4]byte(read(4))).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = netip.AddrFrom16([16]byte(read(16))).String()
	}
	port := binary.BigEndian.Uint16(read(2))
	p.mu.Lock()
	p.asked = append(p.asked, fmt.Sprintf("%s %d", host, port))
	p.mu.Unlock()
	if to, ok := p.hosts[host]; ok {
		host = to
	}
	out, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		_, _ = c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	defer out.Close()
	first := make([]byte, 100)
	n, _ := out.Read(first)
	_, _ = c.Write(append([]byte{5, 0, 0, 3, 3, 'a', 'b', 'c', 0, 80}, first[:n]...))
	go func() { _, _ = io.Copy(out, c); _ = out.(*net.TCPConn).CloseWrite() }()
	_, _ = io.Copy(c, out)
}

func TestUpstream(t *testing.T) {
	t.Parallel()
	greeter := serve(t, "tcp4", "127.0.0.1:0", func(c net.Conn) {
		_, _ = io.WriteString(c, "220 hello\n")
		_, _ = io.Copy(c, c)
	})
	for _, login := range []string{"", "us%40r:p%3Assword@"} {
		p := &proxy{hosts: map[string]string{"echo.example": "127.0.0.1"}}
		if login != "" {
			p.user, p.password = "us@r", "p:ssword"
		}
		at := serve(t, "tcp4", "127.0.0.1:0", p.handle)
		// The policy is the default one, and does not apply to the proxy itself.
		s := newSockets(t, Config{Upstream: "socks5://" + login + at.String(), Allow: []netip.Prefix{}, Lookup: names{}})
		c, err := s.Dial(t.Context(), flow.Target{Host: "echo.example", Port: greeter.Port()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "and back")
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "220 hello\nand back" {
			t.Errorf("got %q, %v", b, err)
		}
		if st := s.Stats(); st.Lookups != 0 {
			t.Errorf("looked up %d names here", st.Lookups)
		}
		if want := fmt.Sprint("[echo.example ", greeter.Port(), "]"); fmt.Sprint(p.asked) != want {
			t.Errorf("asked for %q, want %q", p.asked, want)
		}

		// What the policy can check.
		p.asked = nil
		for _, tt := range []struct {
			host string
			want flow.Code
		}{
			{"127.0.0.1", flow.CodeDenied}, {"10.0.0.1", flow.CodeDenied}, {"169.254.169.254", flow.CodeDenied},
			{"::1", flow.CodeDenied}, {"64:ff9b::7f00:1", flow.CodeDenied}, {"localhost", flow.CodeDenied},
			{"router", flow.CodeDenied}, {"metadata.google.internal", flow.CodeDenied}, {"x.localhost.", flow.CodeDenied},
			{"127.1", flow.CodeNameNotFound}, {"0x7f000001", flow.CodeNameNotFound},
		} {
			if _, err := s.Dial(t.Context(), flow.Target{Host: tt.host, Port: 80}); flow.CodeOf(err) != tt.want {
				t.Errorf("%s: got %v, want %v", tt.host, err, tt.want)
			}
		}
		if _, err := s.Dial(t.Context(), flow.Target{Host: "mail.example", Port: 25}); flow.CodeOf(err) != flow.CodeDenied {
			t.Errorf("port 25: got %v", err)
		}
		if len(p.asked) != 0 {
			t.Errorf("asked the proxy for %q", p.asked)
		}
		closed := closedPortOf(t, "127.0.0.1")
		if _, err := s.Dial(t.Context(), flow.Target{Host: "echo.example", Port: closed}); flow.CodeOf(err) != flow.CodeRefused {
			t.Errorf("closed port: got %v", err)
		}
		if v4, v6 := s.ExitAddrs(); s.UDP() || v4.IsValid() || v6.IsValid() {
			t.Errorf("UDP %v, leaves from %v, %v", s.UDP(), v4, v6)
		}
		if f := s.Families(); f != both {
			t.Errorf("families %d, want what the config says", f)
		}
	}
	s, err := New(Config{Upstream: "socks5://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if f := s.Families(); f != flow.IPv4 {
		t.Errorf("families %d, want IPv4", f)
	}
}

func TestUpstreamLiteral(t *testing.T) {
	t.Parallel()
	p := &proxy{}
	at := serve(t, "tcp4", "127.0.0.1:0", p.handle)
	for _, a := range []string{"127.0.0.1", "::1"} {
		echo := serve(t, "tcp", net.JoinHostPort(a, "0"), func(c net.Conn) { _, _ = io.WriteString(c, "hi") })
		s := newSockets(t, Config{Upstream: "socks5://" + at.String()})
		c, err := s.Dial(t.Context(), flow.Target{Host: a, Port: echo.Port()})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "hi" {
			t.Errorf("%s: got %q, %v", a, b, err)
		}
		c.Close()
	}
}

func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	secret := "hunter2"
	tests := []struct {
		name   string
		login  string
		answer string // all that the proxy says before it hangs up
		want   flow.Code
	}{
		{"hangs up", "", "", flow.CodeNetUnreach},
		{"is a web server", "", "HTTP/1.1 400 Bad Request\r\n\r\n", flow.CodeNetUnreach},
		{"wants a password", "", "\x05\xff", flow.CodeNetUnreach},
		{"wants no password", "u:" + secret + "@", "\x05\x00", flow.CodeNetUnreach},
		{"refuses the password", "u:" + secret + "@", "\x05\x02\x01\x01", flow.CodeNetUnreach},
		{"hangs up later", "", "\x05\x00\x05\x00", flow.CodeNetUnreach},
		{"odd address", "", "\x05\x00\x05\x00\x00\x02\x00", flow.CodeNetUnreach},
		{"cut name", "", "\x05\x00\x05\x00\x00\x03\xff\x00", flow.CodeNetUnreach},
		{"general failure", "", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeHostUnreach},
		{"ruleset", "", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeDenied},
		{"network", "", "\x05\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeNetUnreach},
		{"host", "", "\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeHostUnreach},
		{"refused", "", "\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeRefused},
		{"ttl", "", "\x05\x00\x05\x06\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeTimeout},
		{"address type", "", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", flow.CodeNetUnreach},
	}
	for _, tt := range tests {
		at := serve(t, "tcp4", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.WriteString(c, tt.answer)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		})
		var log bytes.Buffer
		s := newSockets(t, Config{Upstream: "socks5://" + tt.login + at.String(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			c, err := s.Dial(t.Context(), flow.Target{Host: "secret.example", Port: 80})
			if c != nil || flow.CodeOf(err) != tt.want || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: got %v (%v), want %v", tt.name, err, flow.CodeOf(err), tt.want)
			}
		}
		if text := log.String(); strings.Contains(text, secret) || strings.Contains(text, "secret") {
			t.Errorf("%s: logged %s", tt.name, text)
		} else if want := tt.want == flow.CodeNetUnreach; strings.Count(text, "\n") != map[bool]int{true: 1}[want] {
			t.Errorf("%s: logged %q, which should be once at most", tt.name, text)
		}
	}
	s := newSockets(t, Config{Upstream: fmt.Sprintf("socks5://127.0.0.1:%d", closedPortOf(t, "127.0.0.1"))})
	if _, err := s.Dial(t.Context(), flow.Target{Host: "x.example", Port: 80}); flow.CodeOf(err) != flow.CodeNetUnreach {
		t.Errorf("not there: got %v", err)
	}
}

// A proxy that says nothing costs the dial's time and no more.
func TestUpstreamSilent(t *testing.T) {
	t.Parallel()
	at := serve(t, "tcp4", "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	s := newSockets(t, Config{Upstream: "socks5://" + at.String()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Dial(ctx, flow.Target{Host: "x.example", Port: 80}); flow.CodeOf(err) != flow.CodeTimeout {
		t.Errorf("got %v", err)
	}
}

func TestParseUpstream(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"socks5://proxy.example:1080", "socks5://u:p@[::1]:1080/", "socks5://u@127.0.0.1:1"} {
		if u, err := parseUpstream(text); err != nil || u == nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"proxy:1080", "http://u:hunter2@p:1080", "socks5://u:hunter2@p", "socks5://u:hunter2@:1080",
		"socks5://u:hunter2@p:0", "socks5://u:hunter2@p:99999", "socks5://u:hunter2@p:1080/path", "socks5://u:hunter2@p:1080?x",
		"socks5://:hunter2@p:1080", "socks5://u:hunter2@p:x", "socks5://" + strings.Repeat("u", 256) + ":hunter2@p:1080"} {
		if u, err := parseUpstream(text); err == nil || u != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, %v", text, u, err)
		}
	}
}

// pipe reads from what a proxy may say and writes to nowhere.
type pipe struct{ io.Reader }

func (pipe) Write(b []byte) (int, error) { return len(b), nil }

func FuzzUpstream(f *testing.F) {
	f.Add([]byte("\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50rest"), true, "x.example")
	f.Add([]byte("\x05\x00\x05\x00\x00\x03\x03abc\x00\x50rest"), false, "8.8.8.8")
	f.Add([]byte("\x05\x00\x05\x05\x00\x04"), false, "2600::1")
	f.Fuzz(func(t *testing.T, answer []byte, login bool, host string) {
		to, err := flow.NewTarget(host, 443)
		if err != nil {
			return
		}
		u := &upstream{}
		if login {
			u.user, u.password = strings.Repeat("u", 255), strings.Repeat("p", 255)
		}
		r := bytes.NewReader(answer)
		if fe := u.connect(pipe{r}, to); fe != nil {
			return
		}
		// What is left begins right behind the bound address: check by reading the answer another way.
		at := 2
		if login {
			at = 4
		}
		size := map[byte]int{1: 4, 4: 16}[answer[at+3]]
		if answer[at+3] == 3 {
			size = 1 + int(answer[at+4])
		}
		if left := len(answer) - (at + 4 + size + 2); left != r.Len() {
			t.Fatalf("%d bytes left, want %d", r.Len(), left)
		}
	})
}

// The context's end must not reach the connection that was handed out.
func TestUpstreamConnOutlivesContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() {
			var b [64]byte
			_, _ = io.ReadFull(there, b[:3])
			_, _ = there.Write([]byte{5, 0})
			_, _ = io.ReadFull(there, b[:5+len("x.example")+2])
			_, _ = there.Write([]byte("\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00first"))
		}()
		u := &upstream{}
		if fe := u.connect(here, flow.Target{Host: "x.example", Port: 80}); fe != nil {
			t.Fatal(fe)
		}
		var b [5]byte
		if _, err := io.ReadFull(here, b[:]); err != nil || string(b[:]) != "first" {
			t.Errorf("got %q, %v", b, err)
		}
	})
	p := &proxy{hosts: map[string]string{"echo.example": "127.0.0.1"}}
	at := serve(t, "tcp4", "127.0.0.1:0", p.handle)
	echo := serve(t, "tcp4", "127.0.0.1:0", func(c net.Conn) { _, _ = io.WriteString(c, "hi"); _, _ = io.Copy(c, c) })
	s := newSockets(t, Config{Upstream: "socks5://" + at.String()})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := s.Dial(ctx, flow.Target{Host: "echo.example", Port: echo.Port()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	var b [2]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}
