package quic_test

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// BenchmarkDown is a download over loopback, both ends in this process: how fast, and what a gigabyte costs in seconds of
// CPU, both ends and the kernel together. What https costs is there to compare.
func BenchmarkDown(b *testing.B) {
	for name, start := range map[string]func(testing.TB) transporttest.World{
		"quic":  func(t testing.TB) transporttest.World { return startOn(t, "127.0.0.1:0") },
		"https": startHTTPS,
	} {
		b.Run(name, func(b *testing.B) {
			w := start(b)
			accepted := make(chan transport.Conn, 1)
			go func() {
				c, err := w.Listener.Accept()
				if err != nil {
					b.Error(err)
				}
				accepted <- c
			}()
			client, err := w.Dialer.Dial(b.Context(), w.Endpoint)
			if err != nil {
				b.Fatal(err)
			}
			server := <-accepted
			defer client.Close()
			defer server.Close()
			const chunk = 64 << 10
			b.SetBytes(chunk)
			began, busy := time.Now(), cpu(b)
			go func() {
				buf := [][]byte{make([]byte, chunk)}
				for range b.N {
					if err := transport.WriteBatch(server, buf); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			if _, err := io.CopyN(io.Discard, struct{ io.Reader }{client}, int64(b.N)*chunk); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric((cpu(b)-busy).Seconds()/(float64(b.N)*chunk/1e9), "cpu-s/GB")
			b.ReportMetric(float64(b.N)*chunk*8/1e9/time.Since(began).Seconds(), "Gbit/s")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func startHTTPS(t testing.TB) transporttest.World {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t)
	key := https.KeyHash(cert.Leaf)
	l := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            key, Door: transporttest.Lock{}, Website: website,
	})
	t.Cleanup(func() { l.Close() })
	return transporttest.World{Dialer: &https.Dialer{}, Listener: l, Endpoint: transport.Endpoint{
		Addr: l.Addr().String(), Name: name, Pins: [][32]byte{key}, Opener: transporttest.Key{}}}
}
