package rules

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	nethttp "net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/http"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
	"github.com/godwit-vpn/godwit/internal/transports/websocket"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// wire is a TCP relay that notes what passes, in segments, as firewalltest.Conn wants it: one list for each connection.
type wire struct {
	mu    sync.Mutex
	conns [][]string
}

func (w *wire) relay(t *testing.T, target string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var carried sync.WaitGroup
	carried.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				return
			}
			w.mu.Lock()
			n := len(w.conns)
			w.conns = append(w.conns, nil)
			w.mu.Unlock()
			carried.Go(func() { w.copy(n, ">", up, c) })
			carried.Go(func() { w.copy(n, "<", c, up) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		carried.Wait()
	})
	return l.Addr().String()
}

func (w *wire) copy(n int, from string, dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	for b := make([]byte, 1400); ; {
		got, err := src.Read(b)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.conns[n] = append(w.conns[n], from+string(b[:got]))
		w.mu.Unlock()
		if _, err := dst.Write(b[:got]); err != nil {
			return
		}
	}
}

// pipeGateway is a gateway for a pipe: its key, its listener, and the doorstep for its handler.
func pipeGateway(t *testing.T) (cert tls.Certificate, l *pipe.Listener, step *doorstep.Step, ep transport.Endpoint) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"allowed.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	if l, err = pipe.Listen(pipe.ListenConfig{Key: key, Door: transporttest.Lock{}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return cert, l, doorstep.New(doorstep.Config{Door: transporttest.Lock{}, Pin: pin}),
		transport.Endpoint{Name: "allowed.example", Pins: [][32]byte{pin}, Opener: transporttest.Key{}}
}

// converse dials, has an echo of some bulk, and returns what a firewall saw of it.
func converse(t *testing.T, d transport.Dialer, l *pipe.Listener, ep transport.Endpoint, server string) [][]string {
	t.Helper()
	w := new(wire)
	ep.Addr = w.relay(t, server)
	var echoed sync.WaitGroup
	defer echoed.Wait()
	echoed.Go(func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := d.Dial(ctx, ep)
	if err != nil {
		l.Close()
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	const size = 100_000
	echoed.Go(func() { c.Write(make([]byte, size)) })
	if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conns
}

// What the pipes say on the wire is what it is said to be: HTTP, and TLS. What is in them, without them, is not.
func TestPipes(t *testing.T) {
	t.Parallel()
	site := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		io.WriteString(w, "<!doctype html><title>A site</title>"+strings.Repeat("<p>Words.</p>", 100))
	})
	conversations := map[string]func(t *testing.T) (server string, conns [][]string){
		"http": func(t *testing.T) (string, [][]string) {
			_, l, step, ep := pipeGateway(t)
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := https.NewServer(http.Handler(decoy.Redirect(443), step, l))
			go server.Serve(tcp)
			t.Cleanup(func() { server.Close() })
			return "198.51.100.1:80", converse(t, &http.Dialer{}, l, ep, tcp.Addr().String())
		},
		"websocket": func(t *testing.T) (string, [][]string) {
			cert, l, step, ep := pipeGateway(t)
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := https.Listen(tcp, https.ListenConfig{Key: ep.Pins[0], Door: transporttest.Lock{}, Website: websocket.Handler(site, step, l),
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }})
			t.Cleanup(func() { server.Close() })
			return "198.51.100.1:443", converse(t, &websocket.Dialer{}, l, ep, tcp.Addr().String())
		},
	}
	cutOff := Then{Drop: true, Block: scope(firewall.Connection)}
	rules := map[string]func() Set{
		"fully-encrypted": func() Set { return Set{FullyEncrypted: []*FullyEncrypted{{Then: cutOff}}} },
		"http-name": func() Set {
			return Set{HTTPName: []*HTTPName{{Names: Names{"banned.example"}, Words: []string{"vpn", "tunnel", "godwit"}, Then: cutOff}},
				TLSName: []*TLSName{{Names: Names{"banned.example"}, Then: cutOff}}}
		},
		"allow-protocols": func() Set { return Set{AllowProtocols: []*AllowProtocols{iran2020()}} },
		"allow-protocols, all ports": func() Set {
			return Set{AllowProtocols: []*AllowProtocols{{Allow: []string{"tls", "http", "dns"}, After: 6, Then: cutOff}}}
		},
	}
	for name, say := range conversations {
		t.Run(name, func(t *testing.T) {
			server, conns := say(t)
			if len(conns) == 0 {
				t.Fatal("nothing was seen")
			}
			for rule, set := range rules {
				for i, texts := range conns {
					res := firewalltest.Pass(newBox(t, firewall.InPath, set()), firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", server, 0, texts...))
					if len(res.Events) > 0 || len(res.Dropped) > 0 {
						t.Errorf("%s hits connection %d of %d packets: %v", rule, i, len(texts), res.Events)
					}
				}
			}
			// The same bytes without what they are wrapped in.
			bare := conns[len(conns)-1]
			for i, text := range bare {
				if text[0] == '>' && i > 0 && !strings.HasPrefix(text, ">POST") && !strings.HasPrefix(text, ">GET") {
					bare = append([]string{}, bare[i:]...)
					// One in four hundred begins with six printable bytes, which would exempt it.
					bare[0] = ">" + strings.TrimLeftFunc(bare[0][1:], func(r rune) bool { return r < 0x7f })
					break
				}
			}
			if name != "http" {
				return
			}
			for rule, set := range rules {
				res := firewalltest.Pass(newBox(t, firewall.InPath, set()), firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", server, 0, bare...))
				if wanted := rule != "http-name"; len(res.Events) > 0 != wanted {
					t.Errorf("%s: of the bodies alone it says %v", rule, res.Events)
				}
			}
		})
	}
}
