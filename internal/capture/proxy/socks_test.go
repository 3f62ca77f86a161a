package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	xproxy "golang.org/x/net/proxy"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// connectMsg is a CONNECT to host, written as an address if it is one.
func connectMsg(host string, port uint16) []byte {
	return requestMsg(cmdConnect, host, port)
}

func requestMsg(cmd byte, host string, port uint16) []byte {
	msg := []byte{5, cmd, 0}
	if ip, err := netip.ParseAddr(host); err == nil {
		return appendAddress(msg, netip.AddrPortFrom(ip, port))
	}
	msg = append(append(msg, 3, byte(len(host))), host...)
	return append(msg, byte(port>>8), byte(port))
}

// greet says hello without authentication.
func greet(t testing.TB, c net.Conn) {
	t.Helper()
	mustWrite(t, c, []byte{5, 1, 0})
	mustRead(t, c, []byte{5, 0})
}

// readReply reads a reply's code and address.
func readReply(t testing.TB, c io.Reader) (byte, address) {
	t.Helper()
	// A reply has the shape of a request.
	code, bound, err := readRequest(c)
	if err != nil {
		t.Fatalf("reply: %v", err)
	}
	return code, bound
}

// socksTo opens host:port through r by hand.
func socksTo(t testing.TB, r *running, host string, port uint16) *net.TCPConn {
	t.Helper()
	c := r.dial(t)
	greet(t, c)
	mustWrite(t, c, connectMsg(host, port))
	if code, _ := readReply(t, c); code != 0 {
		t.Fatalf("reply %d", code)
	}
	return c
}

// wantReset checks that c ends with a reset, nothing before it.
func wantReset(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := io.Copy(io.Discard, c)
	if n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%d bytes, then %v; want a reset", n, err)
	}
}

// unused is a port nobody listens on.
func unused(t testing.TB) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

func TestSOCKSClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ listen, host string }{
		{"127.0.0.1:0", "site.example"},
		{"127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "six.example"},
		{"[::1]:0", "::1"},
	} {
		t.Run(tt.host, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			r := start(t, w, Config{})
			far := listenOn(t, tt.listen, echo)
			d, err := xproxy.SOCKS5("tcp", r.addr, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.Dial("tcp", net.JoinHostPort(tt.host, strconv.Itoa(int(far.Port()))))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			big := bytes.Repeat([]byte("godwit "), 1<<17)
			go c.Write(big)
			mustRead(t, c, big)
			if got := w.lastOpened(t); got.target.Host != tt.host || got.early {
				t.Errorf("opened %v", got)
			}
		})
	}
}

func TestSOCKSHalfClose(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	far := listen(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c) // ends only with the application's half
		fmt.Fprintf(c, "%d bytes", len(all))
	})
	c := socksTo(t, r, "127.0.0.1", far.Port())
	mustWrite(t, c, make([]byte, 100_000))
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if string(got) != "100000 bytes" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestResetReachesTheApplication(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	far := listen(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		reset(c)
	})
	for name, open := range map[string]func() net.Conn{
		"SOCKS5":  func() net.Conn { return socksTo(t, r, "127.0.0.1", far.Port()) },
		"CONNECT": func() net.Conn { return httpTo(t, r, far.String()) },
	} {
		c := open()
		mustWrite(t, c, []byte{1})
		t.Log(name)
		wantReset(t, c)
	}
}

func TestResetReachesTheSite(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	ended := make(chan error, 1) // of the one connection
	far := listen(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	})
	c := socksTo(t, r, "127.0.0.1", far.Port())
	mustWrite(t, c, []byte{1})
	reset(c)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the site saw %v, want a reset", err)
	}
}

// TestPipelined sends greeting, request and data in one segment, and more data while the gateway dials.
func TestPipelined(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 500, 5000, 200_000} {
		w := newWorld()
		w.slow["127.0.0.1"] = make(chan struct{})
		r := start(t, w, Config{})
		far := listen(t, echo)
		c := r.dial(t)
		data := bytes.Repeat([]byte("early bird "), size)[:size]
		msg := append([]byte{5, 1, 0}, connectMsg("127.0.0.1", far.Port())...)
		wrote := make(chan error, 1) // the one write's result
		go func() {
			_, err := c.Write(append(msg, data...))
			wrote <- err
		}()
		mustRead(t, c, []byte{5, 0})
		close(w.slow["127.0.0.1"])
		if code, _ := readReply(t, c); code != 0 {
			t.Fatalf("reply %d", code)
		}
		mustRead(t, c, data)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		mustWrite(t, c, []byte("late"))
		mustRead(t, c, []byte("late"))
	}
}

// TestSentWhileDialling sends data only after the request, before the answer.
func TestSentWhileDialling(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.slow["127.0.0.1"] = make(chan struct{})
	r := start(t, w, Config{})
	far := listen(t, echo)
	conns := map[string]net.Conn{"SOCKS5": r.dial(t), "CONNECT": r.dial(t)}
	for name, c := range conns {
		if name == "SOCKS5" {
			greet(t, c)
			mustWrite(t, c, connectMsg("127.0.0.1", far.Port()))
		} else {
			fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", far)
		}
		time.Sleep(20 * time.Millisecond) // so that the proxy is in Open; either order must work
		mustWrite(t, c, []byte("sent while dialling"))
		time.Sleep(20 * time.Millisecond)
	}
	close(w.slow["127.0.0.1"])
	for name, c := range conns {
		if name == "SOCKS5" {
			mustRead(t, c, []byte("\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"))
		} else {
			mustRead(t, c, []byte("HTTP/1.1 200 Connection established\r\n\r\n"))
		}
		mustRead(t, c, []byte("sent while dialling"))
		mustWrite(t, c, []byte("more"))
		mustRead(t, c, []byte("more"))
	}
}

func TestSOCKSReplies(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for code := flow.CodeRefused; code <= flow.CodeLocalShutdown; code++ {
		w.fail[fmt.Sprintf("code%d.example", code)] = code
	}
	r := start(t, w, Config{})
	for host, want := range map[string]byte{
		"code1.example":                 5,
		"code2.example":                 3,
		"code3.example":                 4,
		"code4.example":                 6,
		"code5.example":                 4,
		"code6.example":                 4,
		"code7.example":                 2,
		"code8.example":                 1,
		"code9.example":                 1,
		"code13.example":                1,
		"unknown.example":               4,
		"has space.example":             1,
		strings.Repeat("a.", 127):       4, // 254 with the final dot: a name as long as they come
		strings.Repeat("a.", 127) + "b": 1,
	} {
		c := r.dial(t)
		greet(t, c)
		mustWrite(t, c, connectMsg(host, 22))
		if got, _ := readReply(t, c); got != want {
			t.Errorf("%s: reply %d, want %d", host, got, want)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: after the reply: %v, want EOF", host, err)
		}
	}
	// A real refusal, by address: port 443 must hear the truth too.
	c := r.dial(t)
	greet(t, c)
	mustWrite(t, c, connectMsg("127.0.0.1", unused(t)))
	if got, _ := readReply(t, c); got != replyRefused {
		t.Errorf("refused address: reply %d", got)
	}
}

// TestFailureReplyOutlivesPipelinedData checks that the answer is not overtaken by a reset.
func TestFailureReplyOutlivesPipelinedData(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	c := r.dial(t)
	mustWrite(t, c, append(append([]byte{5, 1, 0}, connectMsg("unknown.example", 22)...), make([]byte, 30_000)...))
	mustRead(t, c, []byte{5, 0})
	if got, _ := readReply(t, c); got != replyHostUnreach {
		t.Errorf("reply %d", got)
	}
	for range 3 { // what is still under way is taken, not answered with a reset
		mustWrite(t, c, make([]byte, 1000))
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the reply: %v, want EOF", err)
	}
}

func TestSOCKSRefusals(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	refusal := func(reply byte) string { return string(appendReply([]byte{5, 0}, reply, netip.AddrPort{})) }
	for _, tt := range []struct{ name, send, want string }{
		{"bind", "\x05\x01\x00\x05\x02\x00\x01\x01\x02\x03\x04\x00\x50", refusal(7)},
		{"address type", "\x05\x01\x00\x05\x01\x00\x09aaaaaa", refusal(8)},
		{"empty name", "\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", refusal(1)},
		{"port 0", "\x05\x01\x00\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00", refusal(1)},
		{"version", "\x05\x01\x00\x04\x01\x00\x01\x01\x02\x03\x04\x00\x50", refusal(1)},
		{"only GSSAPI", "\x05\x01\x01", "\x05\xff"},
		{"only login", "\x05\x01\x02", "\x05\xff"},
		{"no method", "\x05\x00", "\x05\xff"},
		{"SOCKS4", "\x04\x01\x00\x50\x01\x02\x03\x04user\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"SOCKS4a", "\x04\x01\x00\x50\x00\x00\x00\x01user\x00a.example\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := r.dial(t)
			mustWrite(t, c, []byte(tt.send))
			got, err := io.ReadAll(c)
			if string(got) != tt.want || err != nil {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestEarlyAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		host  string
		port  uint16
		early bool
	}{
		{"slow.example", 443, true},
		{"slow.example", 80, true},
		{"slow.example", 853, true},
		{"slow.example", 22, false},
		{"slow.example", 8443, false},
		{"192.0.2.1", 443, false},
		{"2001:db8::1", 443, false},
	} {
		for _, kind := range []string{"SOCKS5", "CONNECT"} {
			t.Run(fmt.Sprintf("%s %s %d", kind, tt.host, tt.port), func(t *testing.T) {
				t.Parallel()
				w := newWorld()
				gate := make(chan struct{})
				w.slow[tt.host], w.fail[tt.host] = gate, flow.CodeRefused
				r := start(t, w, Config{})
				c := r.dial(t)
				want, truth := "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"
				if kind == "SOCKS5" {
					greet(t, c)
					mustWrite(t, c, connectMsg(tt.host, tt.port))
				} else {
					want, truth = "HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.1 502 Bad Gateway\r\n"
					at := net.JoinHostPort(tt.host, strconv.Itoa(int(tt.port)))
					fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", at, at)
				}
				if tt.early {
					mustRead(t, c, []byte(want))
					mustWrite(t, c, []byte("hello"))
					close(gate)
					wantReset(t, c)
					eventually(t, "the failure is counted", func() bool { return r.Stats().EarlyFailed == 1 })
				} else {
					c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.DeadlineExceeded) &&
						!err.(net.Error).Timeout() {
						t.Fatalf("an answer before the dial ended: %d bytes, %v", n, err)
					}
					c.SetReadDeadline(time.Now().Add(10 * time.Second))
					close(gate)
					mustRead(t, c, []byte(truth))
					if s := r.Stats(); s.EarlyFailed != 0 || s.OpenFailed != 1 {
						t.Errorf("%+v", s)
					}
				}
			})
		}
	}
}

// TestEarlySuccess carries data through a stream that was answered early, with data pipelined.
func TestEarlySuccess(t *testing.T) {
	t.Parallel()
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	w := newWorld()
	gate := make(chan struct{})
	w.slow["site.example"] = gate
	w.low = netip.MustParseAddrPort(far.Addr().String())
	r := start(t, w, Config{})
	c := r.dial(t)
	mustWrite(t, c, append(append([]byte{5, 1, 0}, connectMsg("site.example", 443)...), "client hello"...))
	mustRead(t, c, []byte{5, 0})
	if code, _ := readReply(t, c); code != 0 {
		t.Fatalf("reply %d", code)
	}
	close(gate)
	s, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustRead(t, s, []byte("client hello"))
	mustWrite(t, s, []byte("server hello"))
	mustRead(t, c, []byte("server hello"))
	if s := r.Stats(); s.EarlyFailed != 0 || s.OpenFailed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSOCKSLogin(t *testing.T) {
	t.Parallel()
	auth, err := NewAuth("ann", "secret")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, newWorld(), Config{Auth: auth})
	far := listen(t, echo)
	for _, tt := range []struct {
		auth *xproxy.Auth
		ok   bool
	}{
		{&xproxy.Auth{User: "ann", Password: "secret"}, true},
		{&xproxy.Auth{User: "ann", Password: "secre"}, false},
		{&xproxy.Auth{User: "bob", Password: "secret"}, false},
		{&xproxy.Auth{User: "ann", Password: strings.Repeat("x", 255)}, false},
		{nil, false},
	} {
		d, err := xproxy.SOCKS5("tcp", r.addr, tt.auth, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Dial("tcp", far.String())
		if (err == nil) != tt.ok {
			t.Errorf("%v: %v", tt.auth, err)
		}
		if err == nil {
			mustWrite(t, c, []byte("hi"))
			mustRead(t, c, []byte("hi"))
			c.Close()
		}
	}
	if got := r.Stats().Unauthenticated; got != 4 {
		t.Errorf("%d unauthenticated, want 4", got)
	}
}

func TestAuthDoesNotPrint(t *testing.T) {
	t.Parallel()
	auth, err := NewAuth("ann", "secret")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb+" "+verb, auth, *auth); got != "[redacted] [redacted]" {
			t.Errorf("%s: %s", verb, got)
		}
	}
	for _, bad := range [][2]string{
		{"", "x"}, {"x", ""}, {"a:b", "x"}, {strings.Repeat("x", 256), "x"}, {"x", strings.Repeat("x", 256)},
	} {
		if _, err := NewAuth(bad[0], bad[1]); err == nil {
			t.Errorf("NewAuth(%.5q, %.5q): no error", bad[0], bad[1])
		}
	}
}

// TestGoneWhileDialling checks that an application that goes away takes its dial with it.
func TestGoneWhileDialling(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "reset"} {
		w := newWorld()
		w.slow["slow.example"] = make(chan struct{}) // for ever
		r := start(t, w, Config{})
		s, h := r.dial(t), r.dial(t)
		greet(t, s)
		mustWrite(t, s, connectMsg("slow.example", 22))
		fmt.Fprint(h, "CONNECT slow.example:22 HTTP/1.1\r\nHost: slow.example\r\n\r\n")
		eventually(t, "both dial", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.opened) == 2
		})
		for _, c := range []*net.TCPConn{s, h} {
			if how == "reset" {
				reset(c)
			} else {
				c.Close()
			}
		}
		eventually(t, how+": both are gone", func() bool { return r.Stats().Conns == 0 })
		if s := r.Stats(); s.OpenFailed != 0 {
			t.Errorf("%s: counted as a failure of the site: %+v", how, s)
		}
	}
}
