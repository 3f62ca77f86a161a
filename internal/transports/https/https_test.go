package https_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) transporttest.World {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := https.Listen(tcp, https.ListenConfig{
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return transporttest.World{
		Dialer:   &https.Dialer{},
		Listener: l,
		Endpoint: transport.Endpoint{Addr: l.Addr().String(), Name: "site.example", Pins: [][32]byte{https.KeyHash(leaf)}},
	}
}

func TestTransport(t *testing.T) { transporttest.Run(t, start) }

// A client without X25519MLKEM768 gets no further than the handshake.
func TestPostQuantumOrNothing(t *testing.T) {
	w := start(t)
	c, err := tls.Dial("tcp", w.Endpoint.Addr, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes over a connection without a post-quantum key exchange", n)
	}
}

// Congestion control is what the kernel says, not what was asked for.
func TestCongestionIsReadBack(t *testing.T) {
	w := start(t)
	go w.Listener.Accept()
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
		if p = c.(transport.Tuned).Measure(); p.Sent <= last.Sent || p.LeastRTT <= 0 || p.RTT < p.LeastRTT/2 {
			t.Fatalf("after %+v the path is %+v", last, p)
		}
	}
	if n := <-got; n != size {
		t.Errorf("%d bytes came", n)
	}
}
