package quic_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate makes one for the website.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, _ := transporttest.NewKey(t)
	return transporttest.Certificate(t, key, name)
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
