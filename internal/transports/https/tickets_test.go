package https

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/tickets"
)

// A visitor's ticket works at the process that comes after this one, for as long as Go's own would, and no longer.
func TestTickets(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"site.example"}, NotAfter: time.Now().AddDate(0, 1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	serve := func(secret [32]byte) (addr string, stop func()) {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := Listen(tcp, ListenConfig{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
			Website: http.NotFoundHandler(), Tickets: secret})
		return tcp.Addr().String(), func() { l.Close() }
	}
	visit := func(addr string, cache tls.ClientSessionCache) bool {
		t.Helper()
		c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "site.example", InsecureSkipVerify: true, ClientSessionCache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil { // the ticket comes before the answer
			t.Fatal(err)
		}
		return c.ConnectionState().DidResume
	}
	for _, c := range []struct {
		name          string
		before, after [32]byte
		resumed       bool
	}{
		{"the same secret", [32]byte{1}, [32]byte{1}, true},
		{"another one", [32]byte{1}, [32]byte{2}, false},
		{"none", [32]byte{}, [32]byte{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := tls.NewLRUClientSessionCache(1)
			addr, stop := serve(c.before)
			if visit(addr, cache) {
				t.Error("a first visit was resumed")
			}
			if !visit(addr, cache) {
				t.Error("a second visit was not resumed")
			}
			stop()
			addr, stop = serve(c.after)
			defer stop()
			if got := visit(addr, cache); got != c.resumed {
				t.Errorf("resumed at the next process: %v, want %v", got, c.resumed)
			}
		})
	}
	t.Run("days", func(t *testing.T) {
		now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
		for days, want := range map[int]bool{0: true, 1: true, 6: true, 7: false, -1: false} {
			cache := tls.NewLRUClientSessionCache(1)
			for i, at := range []time.Time{now, now.AddDate(0, 0, days)} {
				config := &tls.Config{Certificates: []tls.Certificate{*cert}}
				(&tickets.Keys{Secret: [32]byte{1}, Config: config}).Turn(at)
				l, err := tls.Listen("tcp", "127.0.0.1:0", config)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					if s, err := l.Accept(); err == nil {
						io.WriteString(s, "x")
						s.Close()
					}
				}()
				c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "site.example", InsecureSkipVerify: true, ClientSessionCache: cache})
				if err != nil {
					t.Fatal(err)
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.ReadAll(c); err != nil {
					t.Fatal(err)
				}
				c.Close()
				l.Close()
				if got := c.ConnectionState().DidResume; i == 1 && got != want {
					t.Errorf("a ticket is good after %d days: %v, want %v", days, got, want)
				}
			}
		}
	})
}
