package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// sites are the two web sites that the client visits: the same pages over HTTP and HTTPS.
type sites struct {
	plain, secure net.Listener
	roots         *x509.CertPool // what vouches for the secure one
	server        *http.Server

	size      int64
	rate      int64 // bytes of the download in a second
	seed      [32]byte
	downloads atomic.Int32

	mu  sync.Mutex
	sum [sha256.Size]byte // of the download, as the site sent it
}

const (
	page         = "<!doctype html>\n<title>A page</title>\n<p>This page came through the tunnel.\n"
	downloadPath = "/download"
	// paceEvery is how often a piece of the download is sent.
	paceEvery = 10 * time.Millisecond
)

func newSites(host string, size int64, lasting time.Duration) (*sites, error) {
	s := &sites{size: size, rate: max(1, int64(float64(size)/lasting.Seconds()))}
	crand.Read(s.seed[:])
	cert, err := s.certificate(net.ParseIP(host))
	if err != nil {
		return nil, fmt.Errorf("making the web sites: %w", err)
	}
	if s.plain, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		return nil, fmt.Errorf("making the web sites: %w", err)
	}
	tcp, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		s.plain.Close()
		return nil, fmt.Errorf("making the web sites: %w", err)
	}
	s.secure = tls.NewListener(tcp, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(page))
	})
	mux.HandleFunc("GET "+downloadPath, s.download)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return s, nil
}

// certificate makes one for the secure site, which the demo's own visitor trusts.
func (s *sites) certificate(ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "a site of Godwit's demo"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IPAddresses: []net.IP{ip},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// run serves until ctx is done.
func (s *sites) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.server.Close() })
	defer stop()
	var wg sync.WaitGroup
	errs := make(chan error, 2) // one for each listener
	for _, l := range []net.Listener{s.plain, s.secure} {
		wg.Go(func() { errs <- s.server.Serve(l) })
	}
	err := <-errs
	s.server.Close()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("the web sites: %w", err)
}

// download sends random bytes at a steady rate. After a pause it does not hurry to catch up, so that the pause shows.
func (s *sites) download(w http.ResponseWriter, r *http.Request) {
	s.downloads.Add(1)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(s.size))
	random, hash := rand.NewChaCha8(s.seed), sha256.New()
	b := make([]byte, max(1, s.rate*int64(paceEvery)/int64(time.Second)))
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	for left := s.size; left > 0; left -= int64(len(b)) {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		b = b[:min(left, int64(len(b)))]
		random.Read(b)
		hash.Write(b)
		if left == int64(len(b)) {
			s.setSent([sha256.Size]byte(hash.Sum(nil))) // before the visitor can have all of it
		}
		if _, err := w.Write(b); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}

func (s *sites) setSent(sum [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum = sum
}

// sent is the hash of the whole download, zero before it was sent.
func (s *sites) sent() [sha256.Size]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum
}
