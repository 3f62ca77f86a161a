package https_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// A connection that a handler has taken over, as a pipe does, takes no visitor's place: strangers do not push it out, and
// it does not push them.
func TestTakenOverIsNoVisitor(t *testing.T) {
	cert, leaf := certificate(t)
	var taken sync.WaitGroup
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(leaf), Door: transporttest.Lock{},
		Website: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return // this is the listener, which looks at the page
			}
			taken.Go(func() {
				defer c.Close()
				io.WriteString(c, "yours\n")
				io.Copy(c, c)
			})
		}),
	})
	defer taken.Wait()
	defer l.Close()
	var conns []*bufio.ReadWriter
	for range 100 { // more than there is room for from one place
		c, err := tls.Dial("tcp", tcp.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		rw := bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if line, err := rw.ReadString('\n'); line != "yours\n" {
			t.Fatalf("%q came, %v", line, err)
		}
		conns = append(conns, rw)
	}
	for i, rw := range conns {
		rw.WriteString("still there\n")
		rw.Flush()
		if line, err := rw.ReadString('\n'); line != "still there\n" {
			t.Fatalf("connection %d: %q came, %v", i, line, err)
		}
	}
}
