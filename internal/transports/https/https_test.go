package https_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(lingering{m})
}

// lingering gives an HTTP/2 server the second for which it stays with a connection that has broken its rules.
type lingering struct{ *testing.M }

func (l lingering) Run() int {
	code := l.M.Run()
	time.Sleep(time.Second)
	return code
}

func start(t *testing.T) transporttest.World {
	t.Helper()
	cert, _ := certificate(t)
	return startWith(t, cert)
}

// certificate makes one for the website.
func certificate(t *testing.T) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, _ := transporttest.NewKey(t)
	cert := transporttest.Certificate(t, key)
	return cert, cert.Leaf
}

// startWith runs a gateway's website with a door.
func startWith(t *testing.T, cert tls.Certificate) transporttest.World {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	leaf := cert.Leaf
	l := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(leaf),
		Door:           transporttest.Lock{},
		Website:        website,
	})
	t.Cleanup(func() { l.Close() })
	return transporttest.World{
		Dialer:   &https.Dialer{},
		Listener: l,
		Endpoint: transport.Endpoint{Addr: l.Addr().String(), Name: "site.example", Pins: [][32]byte{transport.KeyHash(leaf)},
			Opener: transporttest.Key{}},
	}
}

var quiet = log.New(io.Discard, "", 0)

var website = http.FileServerFS(fstest.MapFS{
	"index.html": {Data: []byte("<!doctype html><title>A site</title>" + strings.Repeat("<p>Words.</p>", 100))},
})

func TestTransport(t *testing.T) { transporttest.Run(t, start) }

// Whoever agrees on another key exchange, or on TLS 1.2, meets the website and no door, whatever they know.
func TestPostQuantumOrNothing(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"X25519":  {CurvePreferences: []tls.CurveID{tls.X25519}},
		"TLS 1.2": {MaxVersion: tls.VersionTLS12},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			config.InsecureSkipVerify, config.NextProtos = true, []string{"h2"}
			c, err := tls.Dial("tcp", w.Endpoint.Addr, config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			get(t, http2Client(t, c), export(t, w, c))
		})
	}
}

// Congestion control is what the kernel says, not what was asked for.
func TestCongestionIsReadBack(t *testing.T) {
	w := start(t)
	go transporttest.AcceptOne(w.Listener)
	w.Dialer = &https.Dialer{Congestion: "no-such-thing"}
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if name := c.(transport.Tuned).Congestion(); name == "no-such-thing" {
		t.Error("a congestion control that does not exist is said to be in use")
	}
}

// What the kernel knows of the path is read, and busy connections are left as fast as they were.
func TestMeasure(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is asked on Linux only")
	}
	w := start(t)
	const size = 64 << 20
	got := make(chan int64, 1)
	go func() {
		c, err := w.Listener.Accept()
		if err != nil {
			got <- 0
			return
		}
		defer c.Close()
		n, _ := io.CopyN(io.Discard, c, size)
		got <- n
	}()
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var p transport.Path
	for range size >> 20 {
		if _, err := c.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		last := p
		if p = c.(transport.Tuned).Measure(); p.Sent < last.Sent || p.LeastRTT <= 0 || p.RTT < p.LeastRTT/2 {
			t.Fatalf("after %+v the path is %+v", last, p)
		}
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes came", n)
	}
}
