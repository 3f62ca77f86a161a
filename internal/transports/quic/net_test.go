package quic_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
)

// A link goes on when a NAT gives the client another address, in the middle of a download.
func TestAnotherAddress(t *testing.T) {
	w := start(t)
	p := &path{}
	w.Endpoint.Addr = p.open(t, w.Endpoint.Addr)
	client, server := connectLink(t, w)
	const mega = 1 << 20
	go func() {
		b := make([]byte, 64<<10)
		for range 8 * mega / len(b) {
			if _, err := server.Write(b); err != nil {
				return
			}
		}
	}()
	for range 4 {
		if _, err := io.CopyN(io.Discard, client, 2*mega); err != nil {
			t.Fatal(err)
		}
		p.rebind(t)
		client.Write([]byte{1}) // who is silent cannot be found
	}
	pingAfter(t, client, server, 4)
}

// pingAfter is pingPong after n bytes that are of no interest.
func pingAfter(t *testing.T, client, server transport.Conn, n int64) {
	t.Helper()
	if _, err := io.CopyN(io.Discard, server, n); err != nil {
		t.Fatal(err)
	}
	pingPong(t, client, server)
}

// Where UDP is swallowed, a dial says so, and does not take long to.
func TestSwallowed(t *testing.T) {
	w := start(t)
	p := &path{}
	p.swallow.Store(true)
	w.Endpoint.Addr = p.open(t, w.Endpoint.Addr)
	_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	var de *transport.DialError
	if !errors.As(err, &de) || de.Stage != transport.StageConnect {
		t.Errorf("dialling into a black hole gave %v", err)
	}
}

// Where nobody listens on the port, the machine there says so, and the dial does not wait.
func TestRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it is heard on Linux only")
	}
	w := start(t)
	w.Listener.Close()
	_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	var de *transport.DialError
	if !errors.As(err, &de) || de.Stage != transport.StageConnect || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling a port that nobody listens on gave %v", err)
	}
}

// Version 2 works, and is what leaves.
func TestVersion2(t *testing.T) {
	w := start(t)
	w.Dialer = &quic.Dialer{Version2: true}
	var first atomic.Pointer[[]byte]
	p := &path{seen: func(b []byte, up bool) {
		if up {
			b = append([]byte(nil), b[:5]...)
			first.CompareAndSwap(nil, &b)
		}
	}}
	w.Endpoint.Addr = p.open(t, w.Endpoint.Addr)
	client, server := connectLink(t, w)
	pingPong(t, client, server)
	if b := *first.Load(); string(b[1:]) != "\x6b\x33\x43\xcf" {
		t.Errorf("the first packet begins with %x", b)
	}
}

// What was written before Close arrives.
func TestLastWords(t *testing.T) {
	w := start(t)
	p := &path{delay: 20 * time.Millisecond}
	w.Endpoint.Addr = p.open(t, w.Endpoint.Addr)
	for _, n := range []int{10, 500_000} {
		client, server := connectLink(t, w)
		go func() {
			server.Write(make([]byte, n))
			server.Close()
		}()
		got, err := io.ReadAll(client)
		if len(got) < n {
			t.Errorf("%d of %d bytes came, %v", len(got), n, err)
		}
		client.Close()
	}
}

// The socket is the caller's to mark.
func TestControl(t *testing.T) {
	w := start(t)
	var got string
	w.Dialer = &quic.Dialer{Control: func(network, address string, c syscall.RawConn) error {
		got = network + " " + address
		return nil
	}}
	connectLink(t, w)
	if got != "udp4 0.0.0.0:0" {
		t.Errorf("Control was called with %q", got)
	}
	w.Dialer = &quic.Dialer{Control: func(string, string, syscall.RawConn) error { return net.ErrClosed }}
	if _, err := w.Dialer.Dial(t.Context(), w.Endpoint); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a socket that may not be used gave %v", err)
	}
}

// The path is measured, and losses are counted.
func TestMeasure(t *testing.T) {
	w := start(t)
	p := &path{delay: 10 * time.Millisecond, loss: 0.05}
	w.Endpoint.Addr = p.open(t, w.Endpoint.Addr)
	client, server := connectLink(t, w)
	const size = 4 << 20
	go server.Write(make([]byte, size))
	if _, err := io.CopyN(io.Discard, client, size); err != nil {
		t.Fatal(err)
	}
	tuned := server.(transport.Tuned)
	if m := tuned.Measure(); m.LeastRTT < 20*time.Millisecond || m.RTT < m.LeastRTT/2 || m.Resent == 0 || m.Sent < size/1500 || m.Resent > m.Sent/4 {
		t.Errorf("the path is %+v", m)
	}
	if tuned.Congestion() != "bbr" {
		t.Errorf("the congestion control is called %q", tuned.Congestion())
	}
}
