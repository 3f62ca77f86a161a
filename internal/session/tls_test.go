package session_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// These tests and benchmarks run a session over the real https transport, between real sockets.

var shaped = flag.Uint("shape", 0, "the level of shaping of sessions over TLS: 0, 1, 2")

// A door that opens to whoever has an access key of this network, and a knock that does.
var (
	door  = link.Door{Secret: func([8]byte) (secret [16]byte) { return secret }}
	knock = link.Knock{Transport: https.Name, Device: deviceKey{ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}}
)

type deviceKey struct{ ed25519.PrivateKey }

func (k deviceKey) Public() ed25519.PublicKey  { return k.PrivateKey.Public().(ed25519.PublicKey) }
func (k deviceKey) Sign(message []byte) []byte { return ed25519.Sign(k.PrivateKey, message) }

// tlsWorld is a session whose links are TLS connections on the loopback.
type tlsWorld struct {
	tb              testing.TB
	client, gateway *session.Session
	listener        *https.Listener
	endpoint        transport.Endpoint
	pool            *session.Pool
}

func newTLSWorld(tb testing.TB, accept func(*session.Stream, flow.Target)) *tlsWorld {
	tb.Helper()
	key, pin := transporttest.NewKey(tb)
	cert := transporttest.Certificate(tb, key)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            pin, Door: door, Website: http.NotFoundHandler()})
	w := &tlsWorld{tb: tb, listener: l, pool: session.NewPool(1 << 30),
		endpoint: transport.Endpoint{Addr: l.Addr().String(), Pins: [][32]byte{pin},
			Opener: knock}}
	id := [16]byte{7}
	w.client = session.New(session.Config{Role: session.Client, ID: id, Pool: w.pool, Shape: shape.Level(*shaped)})
	w.gateway = session.New(session.Config{Role: session.Gateway, ID: id, Pool: w.pool, Shape: shape.Level(*shaped),
		Accept: accept})
	served := make(chan struct{})
	go func() { w.serve(); close(served) }()
	tb.Cleanup(func() {
		w.client.Close(flow.CodeLocalShutdown)
		w.gateway.Close(flow.CodeLocalShutdown)
		l.Close()
		<-served
	})
	return w
}

// serve attaches what comes in, until the listener is closed. The client's acknowledgement, which a HELLO would bring, is
// asked for where it is.
func (w *tlsWorld) serve() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.gateway.Attach(c, session.LinkOptions{Transport: "https", RTT: time.Millisecond, Confirmed: true,
			PeerNext: w.client.Next()})
	}
}

// attach adds a link, dialled to addr, which leads to the listener.
func (w *tlsWorld) attach(addr string) (*session.Link, error) {
	ctx, cancel := context.WithTimeout(w.tb.Context(), 2*time.Second)
	defer cancel()
	ep := w.endpoint
	ep.Addr = addr
	c, err := (&https.Dialer{}).Dial(ctx, ep)
	if err != nil {
		return nil, err
	}
	return w.client.Attach(c, session.LinkOptions{Transport: "https", RTT: time.Millisecond, Confirmed: true,
		PeerNext: w.gateway.Next()})
}

// tcpPair returns the two ends of a TCP connection.
func tcpPair(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	ca, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	cb, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	return ca.(*net.TCPConn), cb.(*net.TCPConn)
}

// BenchmarkJoin carries bytes from a socket through a session to another socket, everything in one process.
func BenchmarkJoin(b *testing.B) {
	for _, streams := range []int{1, 4} {
		for _, way := range []string{"down", "up"} {
			b.Run(fmt.Sprintf("%s/%d", way, streams), func(b *testing.B) { benchJoin(b, streams, way == "down") })
		}
	}
}

func benchJoin(b *testing.B, streams int, down bool) {
	far := make(chan net.Conn, streams) // what the gateway dials
	w := newTLSWorld(b, func(st *session.Stream, _ flow.Target) {
		st.Answer(nil)
		st.Join(<-far)
	})
	if _, err := w.attach(w.endpoint.Addr); err != nil {
		b.Fatal(err)
	}
	const piece = 256 << 10
	b.SetBytes(piece)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range streams {
		app, joined := tcpPair(b)
		site, dialled := tcpPair(b)
		far <- dialled
		st, err := w.client.Open(b.Context(), flow.Target{Host: "x.example", Port: 443}, false)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() { st.Join(joined) })
		from, to := site, app
		if !down {
			from, to = app, site
		}
		n := b.N / streams
		if i == 0 {
			n += b.N % streams
		}
		wg.Go(func() {
			buf := make([]byte, piece)
			for range n {
				if _, err := from.Write(buf); err != nil {
					b.Error(err)
					return
				}
			}
			from.CloseWrite()
		})
		wg.Go(func() {
			if got, err := io.Copy(io.Discard, to); err != nil || got != int64(n)*piece {
				b.Errorf("%d of %d bytes, %v", got, int64(n)*piece, err)
			}
			app.Close()
			site.Close()
		})
	}
	wg.Wait()
}
