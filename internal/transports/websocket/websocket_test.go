package websocket

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

var page = "<!doctype html><title>A site</title>" + strings.Repeat("<p>Words.</p>", 100)

var website = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, page)
})

// identity is a key and a certificate for site.example.
func identity(t testing.TB) (*ecdsa.PrivateKey, tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, _ := transporttest.NewKey(t)
	cert := transporttest.Certificate(t, key, "site.example")
	return key, cert, cert.Leaf
}

// gateway is the pipe's listener, and the server around it.
type gateway struct {
	*pipe.Listener
	stop func()
}

func (g *gateway) Close() error {
	g.stop()
	return g.Listener.Close()
}

// inner makes the pipe of a gateway.
func inner(t testing.TB, key crypto.Signer, addr net.Addr) *pipe.Listener {
	t.Helper()
	l, err := pipe.Listen(pipe.ListenConfig{Key: key, Door: transporttest.Lock{}, Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// world has a front at addr with the certificate, and a gateway with the key.
func world(t testing.TB, addr string, front, own *x509.Certificate, l transport.Listener) transporttest.World {
	roots := x509.NewCertPool()
	roots.AddCert(front)
	t.Cleanup(func() { l.Close() })
	return transporttest.World{Dialer: &Dialer{Roots: roots}, Listener: l, Endpoint: transport.Endpoint{Addr: addr, Name: "site.example",
		Pins: [][32]byte{sha256.Sum256(own.RawSubjectPublicKeyInfo)}, Opener: transporttest.Key{}}}
}

// ownPort is a gateway that has its own TLS.
func ownPort(t testing.TB) transporttest.World {
	t.Helper()
	key, cert, leaf := identity(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := inner(t, key, tcp.Addr())
	step := doorstep.New(doorstep.Config{Door: transporttest.Lock{}, Pin: transport.KeyHash(leaf)})
	site := https.Listen(tcp, https.ListenConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Key:            transport.KeyHash(leaf), Door: transporttest.Lock{}, Website: Handler(website, step, l),
	})
	return world(t, tcp.Addr().String(), leaf, leaf, &gateway{l, func() { site.Close() }})
}

// behind is a gateway behind a front, which start starts. secure says that the front comes to the gateway's port of TLS.
func behind(t testing.TB, secure bool, start func(t testing.TB, pem, upstream string) (addr string)) transporttest.World {
	t.Helper()
	key, cert, leaf := identity(t)
	frontKey, _, frontLeaf := identity(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := inner(t, key, tcp.Addr())
	handler := Handler(website, doorstep.New(doorstep.Config{Door: transporttest.Lock{}, Pin: transport.KeyHash(leaf)}), l)
	var stop func()
	if secure {
		site := https.Listen(tcp, https.ListenConfig{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
			Key:            transport.KeyHash(leaf), Door: transporttest.Lock{}, Website: handler,
		})
		stop = func() { site.Close() }
	} else {
		server := https.NewServer(handler)
		bounded := https.Bounded(tcp, transport.KeyHash(leaf))
		var served sync.WaitGroup
		served.Go(func() { server.Serve(bounded) })
		t.Cleanup(served.Wait)
		stop = func() { server.Close() }
	}
	der, err := x509.MarshalPKCS8PrivateKey(frontKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "front.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: frontLeaf.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := start(t, file, tcp.Addr().String())
	return world(t, addr, frontLeaf, leaf, &gateway{l, stop})
}

// freePort is one that nobody listens at, now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// program runs a Debian server until the test is over, and returns when it listens.
func program(t testing.TB, addr, name, pkg string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; os.Getenv("PATH") == "" {
			path = ""
		}
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%s is not installed (Debian: %s)", name, pkg)
		}
	}
	var out bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", name, out.String())
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

// nginx is Debian's; http2 is " http2" or nothing, and scheme that of the gateway. It cuts what is idle for two seconds.
func nginx(http2, scheme string) func(t testing.TB, pem, upstream string) string {
	return func(t testing.TB, pem, upstream string) string {
		addr, dir := freePort(t), t.TempDir()
		config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
	server {
		ssl_protocols TLSv1.2 TLSv1.3; # Debian's nginx.conf; the default is without 1.3
		listen %[2]s ssl%[3]s;
		server_name site.example;
		ssl_certificate %[4]s; ssl_certificate_key %[4]s;
		location / {
			proxy_pass %[5]s;
			proxy_http_version 1.1;
			proxy_set_header Host $host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_read_timeout 2s; proxy_send_timeout 2s;
		}
	}
}
`, dir, addr, http2, pem, scheme+upstream)
		file := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		program(t, addr, "nginx", "nginx-light", "-c", file, "-e", "stderr")
		return addr
	}
}

// haproxy is Debian's, with RFC 8441 on its front. It cuts what is idle for two seconds.
func haproxy(options string) func(t testing.TB, pem, upstream string) string {
	return func(t testing.TB, pem, upstream string) string {
		addr, dir := freePort(t), t.TempDir()
		config := fmt.Sprintf(`global
	maxconn 200
	ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
	mode http
	timeout connect 5s
	timeout client 2s
	timeout server 2s
	timeout tunnel 2s
frontend front
	bind %s ssl crt %s alpn h2,http/1.1
	default_backend gateway
backend gateway
	server gateway %s
`, addr, pem, upstream+options)
		file := filepath.Join(dir, "haproxy.cfg")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		program(t, addr, "haproxy", "haproxy", "-db", "-f", file)
		return addr
	}
}

var worlds = map[string]func(testing.TB) transporttest.World{
	"own port":         ownPort,
	"nginx":            func(t testing.TB) transporttest.World { return behind(t, false, nginx("", "http://")) },
	"nginx, HTTP 2":    func(t testing.TB) transporttest.World { return behind(t, true, nginx(" http2", "https://")) },
	"HAProxy, RFC8441": func(t testing.TB) transporttest.World { return behind(t, true, haproxy(" ssl verify none")) },
	"HAProxy, plain":   func(t testing.TB) transporttest.World { return behind(t, false, haproxy("")) },
}

func TestTransport(t *testing.T) {
	for name, start := range worlds {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.World { return start(t) })
		})
	}
}

// connect makes one connection.
func connect(t *testing.T, w transporttest.World) (client, server transport.Conn) {
	t.Helper()
	accepted := make(chan transport.Conn, 1)
	go func() {
		c, _ := w.Listener.Accept()
		accepted <- c
	}()
	client, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// Fronts cut what is idle; a link is not.
func TestIdle(t *testing.T) {
	for name, start := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, pings := range []bool{true, false} {
				w := start(t)
				if pings {
					w.Dialer.(*Dialer).idle = 500 * time.Millisecond
				}
				client, server := connect(t, w)
				server.Write([]byte("a"))
				client.SetReadDeadline(time.Now().Add(3500 * time.Millisecond))
				b := make([]byte, 2)
				if _, err := io.ReadFull(client, b[:1]); err != nil {
					t.Fatal(err)
				}
				_, err := client.Read(b)
				if cut := !errors.Is(err, os.ErrDeadlineExceeded); cut != (!pings && name != "own port") {
					t.Errorf("pings %v: cut %v: %v", pings, cut, err)
				}
			}
		})
	}
}

// A wrong proof gets the page, and so does a right one for the second time.
func TestUnproven(t *testing.T) {
	w := ownPort(t)
	w.Endpoint.Opener = transporttest.Key{Unproven: true}
	_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	var de *transport.DialError
	if !errors.As(err, &de) || de.Stage != transport.StageDoor || !errors.Is(err, transport.ErrDoor) {
		t.Errorf("a wrong proof gave %v", err)
	}
}

// The front's certificate has to be good.
func TestFront(t *testing.T) {
	w := behind(t, false, nginx("", "http://"))
	w.Dialer.(*Dialer).Roots = x509.NewCertPool()
	if _, err := w.Dialer.Dial(t.Context(), w.Endpoint); !errors.Is(err, errFront) {
		t.Errorf("an unknown certificate gave %v", err)
	}
	own := ownPort(t)
	own.Dialer.(*Dialer).Roots = x509.NewCertPool()
	go transporttest.AcceptOne(own.Listener)
	c, err := own.Dialer.Dial(t.Context(), own.Endpoint)
	if err != nil {
		t.Fatalf("the gateway's own key gave %v", err)
	}
	c.Close()
}

// What a front cannot do on HTTP/2 is remembered.
func TestRemembers(t *testing.T) {
	w := behind(t, true, nginx(" http2", "https://"))
	for i := range 2 {
		began := time.Now()
		go transporttest.AcceptOne(w.Listener)
		c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		t.Logf("dial %d took %v", i, time.Since(began))
	}
	if !w.Dialer.(*Dialer).isPlain(w.Endpoint.Addr) {
		t.Error("nothing is remembered")
	}
}

// A page without a nonce is no gateway's.
func TestNoGateway(t *testing.T) {
	_, cert, leaf := identity(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: website}
	go server.Serve(l)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	_, err = (&Dialer{Roots: roots}).Dial(t.Context(), transport.Endpoint{Addr: l.Addr().String(), Name: "site.example", Opener: transporttest.Key{}})
	if !errors.Is(err, errNoGateway) {
		t.Errorf("dialling a web server gave %v", err)
	}
}
