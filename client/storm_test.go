package client_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
)

// A network that lets the handshake pass and cuts or swallows what follows sees a few dials, further and further
// apart, and no storm.
func TestNoStorm(t *testing.T) {
	for name, after := range map[string]func(net.Conn){
		"cut": func(c net.Conn) { c.Close() },
		"swallowed": func(c net.Conn) {
			io.Copy(io.Discard, c)
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			certificates, err := w.dir.Certificates(logger(t))
			if err != nil {
				t.Fatal(err)
			}
			l, err := tls.Listen("tcp", w.dir.Settings.Listen[0], &tls.Config{GetCertificate: certificates.GetCertificate,
				NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dials := countDials(l, func(c net.Conn) {
				c.(*tls.Conn).HandshakeContext(context.Background())
				after(c)
			})
			c, _ := start(t, client.Config{Key: w.key, Transports: []string{"https"}})
			const watch = 8 * time.Second
			time.Sleep(watch)
			// Twice as long after each failure: 0, 0.45, 1.35, 3.15, 6.75 seconds, and a link more for each in the beginning.
			if n := dials.Load(); n < 2 || n > 8 {
				t.Errorf("%d dials in %v", n, watch)
			}
			if st := c.Status(); st.State == client.Connected || st.Error == "" {
				t.Errorf("status %+v", st)
			} else if !strings.HasPrefix(st.Error, "https: door: ") {
				t.Errorf("%s: the handshake was to pass", st.Error)
			}
		})
	}
}

// A network that lets every connection begin and freezes it after some 25 packets, silently, sees few of them.
func TestFreezeIsNoStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	echo := echoServer(t) // ends after the gateway, which keeps its end of the stream
	w.run(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dials := countDials(l, func(c net.Conn) { freeze(c, w.dir.Settings.Listen[0]) })
	key := w.key
	key.Endpoints = slices.Clone(w.key.Endpoints)
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	key.Endpoints[0].Host, key.Endpoints[0].Port = host, parsePort(t, port)
	c, _ := start(t, client.Config{Key: key, Transports: []string{"https"}})
	ready(t, c)
	conn := dial(t, c, echo)
	go func() { // as much as there is room for, for as long as the test lasts
		for {
			if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	go io.Copy(io.Discard, conn)
	const watch = 15 * time.Second
	time.Sleep(watch)
	// At the least spacing it is about 30.
	if n := dials.Load(); n < 3 || n > 14 {
		t.Errorf("%d dials in %v", n, watch)
	}
}

// freeze passes a connection on to a gateway, and nothing more once 48 KiB came back.
func freeze(c net.Conn, to string) {
	defer c.Close()
	g, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer g.Close()
	var frozen atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer g.Close()
		buf := make([]byte, 2048)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if !frozen.Load() {
				g.Write(buf[:n])
			}
		}
	}()
	io.CopyN(c, g, 48<<10)
	frozen.Store(true)
	<-done
}

// countDials serves whoever connects to l, until it is closed, and counts them.
func countDials(l net.Listener, serve func(net.Conn)) *atomic.Int64 {
	dials := new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			go serve(c)
		}
	}()
	return dials
}

// hole is an endpoint that is no gateway, and how often it was dialled.
func hole(t *testing.T, serve func(net.Conn)) (accesskey.Endpoint, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return accesskey.Endpoint{Host: "127.0.0.1", Port: parsePort(t, port(t, l.Addr()))}, countDials(l, serve)
}

// swallow serves nobody, and says nothing.
func swallow(c net.Conn) {
	io.Copy(io.Discard, c)
	c.Close()
}
