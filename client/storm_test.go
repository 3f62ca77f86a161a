package client_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/client"
)

// A network that lets the handshake pass and cuts or swallows what follows sees a few dials, further and further
// apart, and no storm.
func TestNoStorm(t *testing.T) {
	for name, after := range map[string]func(net.Conn){
		"cut": func(c net.Conn) { c.Close() },
		"swallowed": func(c net.Conn) {
			io.Copy(io.Discard, c)
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			certificates, err := w.dir.Certificates(logger(t))
			if err != nil {
				t.Fatal(err)
			}
			l, err := tls.Listen("tcp", w.dir.Settings.Listen[0], &tls.Config{GetCertificate: certificates.GetCertificate,
				NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var dials atomic.Int64
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					dials.Add(1)
					go func() {
						c.(*tls.Conn).HandshakeContext(context.Background())
						after(c)
					}()
				}
			}()
			c, _ := start(t, client.Config{Key: w.key})
			const watch = 8 * time.Second
			time.Sleep(watch)
			// Twice as long after each failure: 0, 0.45, 1.35, 3.15, 6.75 seconds, and a link more for each in the beginning.
			if n := dials.Load(); n < 2 || n > 8 {
				t.Errorf("%d dials in %v", n, watch)
			}
			if st := c.Status(); st.State == client.Connected || st.Error == "" {
				t.Errorf("status %+v", st)
			} else if !strings.HasPrefix(st.Error, "https: door: ") {
				t.Errorf("%s: the handshake was to pass", st.Error)
			}
		})
	}
}
