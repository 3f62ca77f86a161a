package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// fidelityPort is where the ports of the far side begin.
	fidelityPort = 7000
	// idLength is how many bytes come first on a connection of which the far side tells what it saw.
	idLength      = 16
	eyeballsAddr6 = "2001:db8:2::66"
)

// A far is a host in the world whose every port does something else.
//
//	 7  TCP, UDP   sends back what it gets
//	 9  TCP        reads a little, then resets
//	11  TCP        sends "bye", ends its half, and then tells how much came
//	13  TCP        tells how it ended
//	15  TCP        reads a little, then closes
//	17  TCP        tells what came
//	19, 20  UDP    say whom they see
//	21  QUIC       sends back what it gets
type far struct {
	t *testing.T

	mu    sync.Mutex
	heard map[string]chan string // by id
}

func newFar(w *world) *far {
	w.t.Helper()
	f := &far{t: w.t, heard: map[string]chan string{}}
	addrs := []string{webAddr}
	if w.ipv6 {
		w.ip(w.world, "addr add "+eyeballsAddr6+"/64 dev wan nodad")
		addrs = append(addrs, webAddr6)
	}
	cert := w.web.certificate(w.t)
	for _, a := range addrs {
		at := func(port int) string { return net.JoinHostPort(a, fmt.Sprint(fidelityPort+port)) }
		for port, serve := range map[int]func(*net.TCPConn){7: sendBack, 9: f.resets, 11: f.endsFirst, 13: f.isReset, 15: f.closesUnread, 17: f.reads} {
			l := w.world.listen(w.t, at(port))
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go serve(conn.(*net.TCPConn))
				}
			}()
		}
		w.world.echoUDP(w.t, at(7))
		for _, port := range []int{19, 20} {
			c := w.world.listenUDP(w.t, at(port))
			go func() {
				b := make([]byte, 1<<16)
				for {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(from.String()), from)
				}
			}()
		}
		q, err := quic.Listen(w.world.listenUDP(w.t, at(21)), &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"far"}}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = q.Close() })
		go func() {
			for {
				conn, err := q.Accept(context.Background())
				if err != nil {
					return
				}
				go func() {
					if st, err := conn.AcceptStream(context.Background()); err == nil {
						_, _ = io.Copy(st, st)
						_ = st.Close()
					}
				}()
			}
		}()
	}
	return f
}

func sendBack(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

func (f *far) resets(c *net.TCPConn) {
	_, _ = io.ReadFull(c, make([]byte, idLength+10))
	_ = c.SetLinger(0)
	_ = c.Close()
}

func (f *far) endsFirst(c *net.TCPConn) {
	f.tell(c, func() string {
		_, _ = c.Write([]byte("bye"))
		_ = c.CloseWrite()
		n, err := io.Copy(io.Discard, c)
		return fmt.Sprintf("%d bytes came, then %s", n, name(err))
	})
}

func (f *far) isReset(c *net.TCPConn) {
	f.tell(c, func() string {
		_, _ = c.Write([]byte("."))
		_, err := io.Copy(io.Discard, c)
		return "they see " + name(err)
	})
}

func (f *far) closesUnread(c *net.TCPConn) {
	_, _ = io.ReadFull(c, make([]byte, idLength+1)) // the rest has come with it
	_ = c.Close()
}

func (f *far) reads(c *net.TCPConn) {
	f.tell(c, func() string {
		b, err := io.ReadAll(c)
		return fmt.Sprintf("they read %q, then %s", b, name(err))
	})
}

// tell keeps what a connection saw for whoever asks by its id.
func (f *far) tell(c *net.TCPConn, saw func() string) {
	defer func() { _ = c.Close() }()
	id := make([]byte, idLength)
	if _, err := io.ReadFull(c, id); err != nil {
		return
	}
	f.of(string(id)) <- saw()
}

func (f *far) of(id string) chan string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.heard[id] == nil {
		f.heard[id] = make(chan string, 1)
	}
	return f.heard[id]
}

// said is what the far side saw of a connection.
func (f *far) said(id string) string {
	select {
	case saw := <-f.of(id):
		return saw
	case <-time.After(20 * time.Second):
		return "nothing"
	}
}

func (s *seat) quic() string {
	pool := x509.NewCertPool()
	text, err := os.ReadFile(s.w.web.ca)
	if err != nil {
		return name(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return name(err)
	}
	pool.AddCert(cert)
	to, err := net.ResolveUDPAddr("udp", s.at(fidelityPort+21))
	if err != nil {
		return name(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := quic.Dial(ctx, s.host.listenUDP(s.w.t, ":0"), to,
		&tls.Config{RootCAs: pool, ServerName: "site.test", NextProtos: []string{"far"}}, nil)
	if err != nil {
		return name(err)
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	st, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return name(err)
	}
	return bounce(st, 1<<20, st.Close)
}
