package quic_test

import (
	"crypto/tls"
	"fmt"
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

// BenchmarkGoodput is a download, and an upload, over 100 Mbit/s and a round trip of 200 ms with losses each way, in a
// queue of 50 ms. An op is a megabyte; run it with -benchtime 150x to see more than its beginning.
func BenchmarkGoodput(b *testing.B) {
	for _, loss := range []float64{0, 0.01, 0.03} {
		for _, up := range []bool{false, true} {
			b.Run(fmt.Sprintf("%v%%/up=%v", 100*loss, up), func(b *testing.B) {
				w := startOn(b, "127.0.0.1:0")
				p := &path{delay: 100 * time.Millisecond, rate: 100e6 / 8, queue: 50 * time.Millisecond, loss: loss}
				w.Endpoint.Addr = p.open(b, w.Endpoint.Addr)
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
				from, to := server, client
				if up {
					from, to = client, server
				}
				const mega = 1 << 20
				began := time.Now()
				go func() {
					buf := [][]byte{make([]byte, 64<<10)}
					for range b.N * mega / (64 << 10) {
						if err := transport.WriteBatch(from, buf); err != nil {
							b.Error(err)
							return
						}
					}
				}()
				for i := range b.N {
					if _, err := io.CopyN(io.Discard, struct{ io.Reader }{to}, mega); err != nil {
						b.Fatal(err)
					}
					if i == 0 {
						b.ReportMetric(time.Since(began).Seconds(), "s/first-MB")
					}
				}
				b.ReportMetric(float64(b.N)*mega*8/1e6/time.Since(began).Seconds(), "Mbit/s")
				m := from.(transport.Tuned).Measure()
				b.ReportMetric(100*float64(m.Resent)/float64(m.Sent), "%lost")
				client.Close()
				server.Close()
			})
		}
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
	key := transport.KeyHash(cert.Leaf)
	l := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            key, Door: transporttest.Lock{}, Website: website,
	})
	t.Cleanup(func() { l.Close() })
	return transporttest.World{Dialer: &https.Dialer{}, Listener: l, Endpoint: transport.Endpoint{
		Addr: l.Addr().String(), Name: name, Pins: [][32]byte{key}, Opener: transporttest.Key{}}}
}
