package e2e

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

const (
	naiveProxy = "127.0.0.1:1090"
	naiveAddr  = gatewayAddr + ":8444"
	chainPort  = "8443"
	chainURL   = "https://v4.test:" + chainPort + "/"
)

// newChainSite starts a web site whose certificate comes with two others, as a CA's do, in the world and on the gateway's
// machine. It returns the latter's address: the client's machine may go there without a tunnel.
func (w *world) newChainSite(cert tls.Certificate) string {
	w.t.Helper()
	pages := map[string]int{"/style.css": 9000, "/script.js": 30000, "/picture.png": 60000}
	site := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		size, ok := pages[r.URL.Path]
		switch {
		case r.URL.Path == "/":
			rw.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(rw, `<!doctype html><title>site</title><link rel="stylesheet" href="/style.css">`+
				`<script src="/script.js"></script><img src="/picture.png"><p>`+strings.Repeat("some text ", 300))
		case ok:
			if strings.HasSuffix(r.URL.Path, "js") {
				rw.Header().Set("Content-Type", "text/javascript")
			}
			_, _ = io.WriteString(rw, strings.Repeat("// ", size/3))
		default:
			http.NotFound(rw, r)
		}
	})
	server := &http.Server{Handler: site, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	l1 := w.world.listen(w.t, net.JoinHostPort(webAddr, chainPort))
	l2 := w.gateway.listen(w.t, net.JoinHostPort(gatewayAddr, chainPort))
	go func() { _ = server.ServeTLS(l1, "", "") }()
	go func() { _ = server.ServeTLS(l2, "", "") }()
	w.t.Cleanup(func() { _ = server.Close() })
	return "https://" + gatewayName + ":" + chainPort + "/"
}

// chain makes a certificate and the two above it, with RSA keys: some 3 KB.
func (w *world) chain() tls.Certificate {
	w.t.Helper()
	var parent *x509.Certificate
	var parentKey *rsa.PrivateKey
	var c tls.Certificate
	for i, name := range []string{"Root", "Intermediate", "v4.test"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			w.t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name, Organization: []string{"Some Company"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: i < 2, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			OCSPServer: []string{"http://ocsp.example"}, IssuingCertificateURL: []string{"http://ca.example/ca.crt"},
			DNSNames: []string{"v4.test", gatewayName},
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			w.t.Fatal(err)
		}
		c.Certificate, c.PrivateKey = append([][]byte{der}, c.Certificate...), key
		if parent, err = x509.ParseCertificate(der); err != nil {
			w.t.Fatal(err)
		}
		parentKey = key
	}
	return c
}

// newNaiveTunnel starts a tunnel as the rules are made for, in the manner of Trojan: each connection is one of TLS, with
// Chrome's hello; in it come a hash, the destination, and the application's bytes as they are.
func (w *world) newNaiveTunnel(cert tls.Certificate) {
	w.t.Helper()
	far := tls.NewListener(w.gateway.listen(w.t, naiveAddr), &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
	near := w.client.listen(w.t, naiveProxy)
	w.t.Cleanup(func() { _ = far.Close() })
	go func() {
		for {
			conn, err := far.Accept()
			if err != nil {
				return
			}
			go w.naiveFar(conn)
		}
	}()
	go func() {
		for {
			conn, err := near.Accept()
			if err != nil {
				return
			}
			go w.naiveNear(conn)
		}
	}()
}

// naiveNear is the client's end: an HTTP proxy.
func (w *world) naiveNear(app net.Conn) {
	defer func() { _ = app.Close() }()
	r := bufio.NewReader(app)
	request, err := http.ReadRequest(r)
	if err != nil || request.Method != http.MethodConnect {
		return
	}
	if _, err := io.WriteString(app, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	first := make([]byte, 1<<14)
	n, err := r.Read(first)
	if err != nil {
		return
	}
	tcp, err := w.client.dial(naiveAddr)
	if err != nil {
		return
	}
	defer func() { _ = tcp.Close() }()
	u, err := chrome.Client(tcp, &utls.Config{ServerName: gatewayName, InsecureSkipVerify: true})
	if err != nil || u.Handshake() != nil {
		return
	}
	hash := make([]byte, 28)
	_, _ = rand.Read(hash)
	head := fmt.Sprintf("%s\r\n%s\r\n\r\n", hex.EncodeToString(hash), request.Host)
	if _, err := u.Write(append([]byte(head), first[:n]...)); err != nil {
		return
	}
	join(u, r, app)
}

// naiveFar is the server's end.
func (w *world) naiveFar(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	var lines [3]string
	for i := range lines {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		lines[i] = strings.TrimSpace(line)
	}
	_, port, err := net.SplitHostPort(lines[1])
	if err != nil {
		return
	}
	site, err := w.gateway.dial(net.JoinHostPort(webAddr, port))
	if err != nil {
		return
	}
	defer func() { _ = site.Close() }()
	join(site, r, conn)
}

// join carries bytes from one to the other and back, until one of them ends.
func join(a net.Conn, fromB io.Reader, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(a, fromB)
		_ = a.Close()
		_ = b.Close()
	}()
	_, _ = io.Copy(b, a)
	_ = a.Close()
	_ = b.Close()
	<-done
}
