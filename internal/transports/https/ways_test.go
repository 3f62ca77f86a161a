package https_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// A gateway is reached at any address, family and port that it listens on, with the name that is given or without one; a
// client that knocks and a stranger who does not send the same, and ask for what a browser would.
func TestWays(t *testing.T) {
	cert, leaf := certificate(t)
	type visit struct {
		name  string // in the handshake
		named bool   // whether there was such an extension
	}
	hellos, hosts := make(chan visit, 1), make(chan string, 1) // one connection at a time
	config := https.ListenConfig{
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			hellos <- visit{h.ServerName, slices.Contains(h.Extensions, 0)}
			return &cert, nil
		},
		Key:  transport.KeyHash(leaf),
		Door: transporttest.Lock{},
		Website: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "localhost" { // without a port: the gateway itself, which looks at its website
				hosts <- r.Host
			}
			io.WriteString(w, "<!doctype html><title>A site</title>")
		}),
	}
	at := map[string]transport.Listener{}
	for _, addr := range []string{"127.0.0.1:0", "127.0.0.2:0", "[::1]:0"} {
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err) // a machine without IPv6
			continue
		}
		l := https.Listen(tcp, config)
		t.Cleanup(func() { l.Close() })
		at[addr] = l
	}
	dialer := new(https.Dialer)
	for _, c := range []struct {
		listener, host, name string
		host1                string // what the request is for, without the port
	}{
		{"127.0.0.1:0", "127.0.0.1", "", "127.0.0.1"},
		{"127.0.0.1:0", "127.0.0.1", "site.example", "site.example"},
		{"127.0.0.1:0", "localhost", "localhost", "localhost"},
		{"127.0.0.1:0", "localhost", "", "localhost"},
		{"127.0.0.2:0", "127.0.0.2", "other.example", "other.example"},
		{"[::1]:0", "::1", "", "::1"},
		{"[::1]:0", "::1", "site.example", "site.example"},
	} {
		l := at[c.listener]
		if l == nil {
			continue
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ep := transport.Endpoint{Addr: net.JoinHostPort(c.host, port), Name: c.name, Pins: [][32]byte{transport.KeyHash(leaf)},
			Opener: transporttest.Key{}}
		want := visit{c.name, c.name != ""}
		accepted := make(chan transport.Conn, 1) // it is read below
		go func() {
			conn, _ := l.Accept()
			accepted <- conn
		}()
		conn, err := dialer.Dial(t.Context(), ep)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := <-hellos; got != want {
			t.Errorf("%+v: the hello says %+v", c, got)
		}
		far := <-accepted
		go far.Write([]byte("hello there"))
		b := make([]byte, 11)
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello there" {
			t.Errorf("%+v: %q, %v", c, b, err)
		}
		conn.Close()
		far.Close()

		tcp, err := net.Dial("tcp", ep.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := https.Look(t.Context(), tcp, ep); err != nil || v.Page.Status != http.StatusOK {
			t.Errorf("%+v: looking: %v", c, err)
			continue
		}
		if got := <-hellos; got != want {
			t.Errorf("%+v: a stranger's hello says %+v", c, got)
		}
		if got := <-hosts; got != net.JoinHostPort(c.host1, port) {
			t.Errorf("%+v: the request is for %s", c, got)
		}
	}
}
