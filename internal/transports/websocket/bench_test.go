package websocket

import (
	"io"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
)

func BenchmarkDown(b *testing.B) {
	for name, start := range worlds {
		b.Run(name, func(b *testing.B) {
			w := start(b)
			accepted := make(chan transport.Conn, 1)
			go func() {
				c, _ := w.Listener.Accept()
				accepted <- c
			}()
			client, err := w.Dialer.Dial(b.Context(), w.Endpoint)
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			server := <-accepted
			defer server.Close()
			batch := make([][]byte, 2)
			for i := range batch {
				batch[i] = make([]byte, 64<<10)
			}
			b.SetBytes(128 << 10)
			b.ResetTimer()
			go func() {
				for range b.N {
					if transport.WriteBatch(server, batch) != nil {
						return
					}
				}
			}()
			if _, err := io.CopyN(io.Discard, client, int64(b.N)*128<<10); err != nil {
				b.Fatal(err)
			}
		})
	}
}
