package quic_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate makes one for the website.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

const name = "site.example"

var website = http.FileServerFS(fstest.MapFS{
	"index.html": {Data: []byte("<!doctype html><title>A site</title>" + strings.Repeat("<p>Words.</p>", 100))},
})

func start(t *testing.T) transporttest.World { return startOn(t, "127.0.0.1:0") }

// startOn runs a gateway's website with a door.
func startOn(t testing.TB, addr string) transporttest.World {
	t.Helper()
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t)
	l, err := quic.Listen(udp, quic.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(cert.Leaf),
		Door:           transporttest.Lock{},
		Website:        website,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return transporttest.World{
		Dialer:   &quic.Dialer{},
		Listener: l,
		Endpoint: transport.Endpoint{Addr: l.Addr().String(), Name: name, Pins: [][32]byte{transport.KeyHash(cert.Leaf)},
			Opener: transporttest.Key{}},
	}
}

func TestTransport(t *testing.T) { transporttest.Run(t, start) }
