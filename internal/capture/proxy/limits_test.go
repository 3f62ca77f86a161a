package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSlowFirstRequest: whoever has not said what it wants in time is cut off, however it dawdles.
func TestSlowFirstRequest(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	for name, said := range map[string]string{
		"silence":           "",
		"SOCKS5 greeting":   "\x05",
		"SOCKS5 no request": "\x05\x01\x00",
		"SOCKS5 request":    "\x05\x01\x00\x05\x01\x00\x03\x09site",
		"HTTP method":       "GE",
		"HTTP header":       "GET http://site.example/ HTTP/1.1\r\nHost: x\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, newWorld(), Config{FirstRequest: limit})
			began := time.Now()
			c := r.dial(t)
			io.WriteString(c, said)
			ended := make(chan error, 1) // the one reader's
			go func() {
				_, err := io.Copy(io.Discard, c)
				ended <- err
			}()
			for {
				select {
				case <-ended:
					if took := time.Since(began); took < limit-10*time.Millisecond || took > 20*limit {
						t.Errorf("cut off after %v", took)
					}
					eventually(t, "its place is free", func() bool { return r.Stats().Conns == 0 })
					return
				case <-time.After(limit / 10):
					// A byte now and then must not buy time. In SOCKS messages a further byte would complete them.
					if strings.HasPrefix(name, "HTTP header") {
						io.WriteString(c, "X")
					}
				}
			}
		})
	}
}

// TestSlowIsNotLate: the limit is for the request, not for what follows it.
func TestSlowIsNotLate(t *testing.T) {
	t.Parallel()
	const limit = 100 * time.Millisecond
	r := start(t, newWorld(), Config{FirstRequest: limit})
	far := listen(t, echo)
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		all, err := io.ReadAll(r.Body)
		time.Sleep(2 * limit)
		fmt.Fprint(w, len(all), err)
	})
	s, h := socksTo(t, r, "127.0.0.1", far.Port()), httpTo(t, r, far.String())
	p := r.dial(t)
	fmt.Fprintf(p, "POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na", name)
	time.Sleep(3 * limit)
	for _, c := range []net.Conn{s, h} {
		mustWrite(t, c, []byte("still here"))
		mustRead(t, c, []byte("still here"))
	}
	mustWrite(t, p, []byte("b"))
	mustRead(t, p, []byte("HTTP/1.1 200 OK\r\n"))
	if got := r.Stats().FirstTooLate; got != 0 {
		t.Errorf("%d counted as late", got)
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{MaxConns: 3})
	far := listen(t, echo)
	s, h := socksTo(t, r, "127.0.0.1", far.Port()), httpTo(t, r, far.String())
	r.dial(t)
	eventually(t, "three are there", func() bool { return r.Stats().Conns == 3 })
	c, err := net.Dial("tcp", r.addr) // the reset may be faster than Dial
	if err == nil {
		_, err = io.ReadAll(c)
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the fourth: %v, want a reset", err)
	}
	for _, c := range []net.Conn{s, h} {
		mustWrite(t, c, []byte("x"))
		mustRead(t, c, []byte("x"))
	}
	if got := r.Stats().TurnedAway; got != 1 {
		t.Errorf("%d turned away", got)
	}
	h.Close()
	s.Close()
	eventually(t, "there is room again", func() bool { return r.Stats().Conns == 1 })
	socksTo(t, r, "127.0.0.1", far.Port())
}

func TestOnlyLoopback(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Outside: newWorld()}).Serve(t.Context(), ln); !errors.Is(err, ErrNotLoopback) {
		t.Errorf("%v, want ErrNotLoopback", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was left open: %v", err)
	}
	r := startOn(t, newWorld(), Config{AllowNonLoopback: true}, "0.0.0.0:0")
	_, port, _ := net.SplitHostPort(r.addr)
	r.addr = net.JoinHostPort("127.0.0.1", port)
	far := listen(t, echo)
	c := socksTo(t, r, "127.0.0.1", far.Port())
	mustWrite(t, c, []byte("x"))
	mustRead(t, c, []byte("x"))
}

func TestNeitherProtocol(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	for i, said := range []string{"\x16\x03\x01\x02\x00\x01", "\x00", "get / HTTP/1.1\r\n\r\n", "\r\n"} {
		c := r.dial(t)
		io.WriteString(c, said) // in one segment: what is never read makes no difference to the reset
		if n, err := io.Copy(io.Discard, c); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %d bytes, %v; want a reset", said, n, err)
		}
		if got := r.Stats().Unintelligible; got != uint64(i+1) {
			t.Errorf("%q: %d counted", said, got)
		}
	}
}

// TestStop: Serve returns at once, whatever is going on, and nobody takes a cut for an end.
func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.slow["slow.example"] = make(chan struct{}) // for ever
	r := start(t, w, Config{})
	far := listen(t, echo)
	hangs := listen(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	conns := map[string]*net.TCPConn{
		"nothing said": r.dial(t),
		"half said":    r.dial(t),
		"SOCKS5":       socksTo(t, r, "127.0.0.1", far.Port()),
		"CONNECT":      httpTo(t, r, far.String()),
		"dialling":     r.dial(t),
		"dialling too": r.dial(t),
		"waiting":      r.dial(t),
		"sending":      r.dial(t),
		"upgrading":    r.dial(t),
		"association":  associate(t, r, false).tcp,
	}
	io.WriteString(conns["half said"], "GET http:")
	greet(t, conns["dialling"])
	mustWrite(t, conns["dialling"], connectMsg("slow.example", 22))
	io.WriteString(conns["dialling too"], "GET http://slow.example:81/ HTTP/1.1\r\nHost: x\r\n\r\n")
	fmt.Fprintf(conns["waiting"], "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", hangs)
	fmt.Fprintf(conns["sending"], "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", hangs)
	fmt.Fprintf(conns["upgrading"],
		"GET http://%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", hangs)
	eventually(t, "all are under way", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.opened) == 7 && r.Stats().Conns == int64(len(conns))
	})
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	for name, c := range conns {
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", name, err)
		}
	}
}

// TestListenerFails: Serve says so, and ends what it had begun.
func TestListenerFails(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1) // Serve's result
	go func() { served <- New(Config{Outside: newWorld()}).Serve(context.Background(), ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ln.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}
