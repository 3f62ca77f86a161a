package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// A site is the world's web site: HTTP/1.1 on port 80; HTTP/1.1 and HTTP/2 over TLS on port 443.
//
//	/hello              "hello over PROTOCOL for HOST"
//	/bytes/SEED/N       N bytes that depend on SEED; ?rate=BYTES paces them per second
//	/sum                the SHA-256 of what is posted
//	/slow               five lines, 200 ms apart
//	/echo               a WebSocket that sends back what it gets
//	/page, /object/, …  what the browser test loads: see browser_linux_test.go
type site struct {
	ca     string // the file with its certificate
	served atomic.Int64
	page   page
}

func newSite(t *testing.T, h *host, dir string) *site {
	t.Helper()
	s := &site{ca: filepath.Join(dir, "ca.pem")}
	cert := s.certificate(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello over %s for %s", r.Proto, r.Host)
	})
	mux.HandleFunc("GET /bytes/{seed}/{n}", s.bytes)
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		for i := range 5 {
			fmt.Fprintf(w, "line %d\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	s.page.routes(mux)
	mux.HandleFunc("GET /echo", echo)

	addresses := []string{webAddr}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		addresses = append(addresses, webAddr6)
	}
	// Two servers: one that has served without TLS no longer sets itself up for HTTP/2.
	quiet := log.New(io.Discard, "", 0)
	plain := &http.Server{Handler: mux, ErrorLog: quiet}
	secret := &http.Server{Handler: mux, ErrorLog: quiet, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	for _, a := range addresses {
		p, s := h.listen(t, net.JoinHostPort(a, "80")), h.listen(t, net.JoinHostPort(a, "443"))
		go func() { _ = plain.Serve(p) }()
		go func() { _ = secret.ServeTLS(s, "", "") }()
	}
	t.Cleanup(func() { _, _ = plain.Close(), secret.Close() })
	return s
}

// certificate makes the site's self-signed certificate and leaves it where programs can be told to trust it.
func (s *site) certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames:    []string{"site.test", "v4.test", "v6.test"},
		IPAddresses: []net.IP{net.ParseIP(webAddr), net.ParseIP(webAddr6)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(s.ca, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// content is the endless content of a seed.
func content(seed string) io.Reader {
	return mathrand.NewChaCha8(sha256.Sum256([]byte(seed)))
}

// sumOf is the SHA-256 of the first n bytes of a seed's content.
func sumOf(t *testing.T, seed string, n int64) string {
	t.Helper()
	sum := sha256.New()
	if _, err := io.CopyN(sum, content(seed), n); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (s *site) bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "not a size", http.StatusBadRequest)
		return
	}
	rate, _ := strconv.ParseInt(r.FormValue("rate"), 10, 64)
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	source := content(r.PathValue("seed"))
	for start, sent := time.Now(), int64(0); sent < n; {
		step := min(n-sent, 64<<10)
		if _, err := io.CopyN(w, source, step); err != nil {
			return
		}
		sent += step
		s.served.Add(step)
		if rate > 0 {
			due := time.Duration(float64(sent) / float64(rate) * float64(time.Second))
			select {
			case <-r.Context().Done():
				return
			case <-time.After(due - time.Since(start)):
			}
		}
	}
}

// sumFile is the SHA-256 of a file.
func sumFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// contentFile writes the first n bytes of a seed's content to a file.
func contentFile(t *testing.T, path, seed string, n int64) {
	t.Helper()
	var b bytes.Buffer
	_, err := io.CopyN(&b, content(seed), n)
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
