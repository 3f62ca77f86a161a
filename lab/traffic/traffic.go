// Package traffic is what crosses the lab's firewalls: a website with pages and files of any size whose every byte is known
// beforehand, and a fetcher that says when what arrived, where it stalled, and whether it was right.
package traffic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/proxy"
)

// Body is what the website's /file/N sends: n bytes that a seed decides.
func Body(seed uint64, n int64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), n)
}

// Website serves "/", a page with a dozen parts, and "/file/N?seed=S", N bytes; "&rate=B" sends at most B bytes a second, as
// a video does.
func Website(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!DOCTYPE html><title>%s</title><h1>%s</h1>\n", name, name)
		for i := range 12 {
			fmt.Fprintf(w, "<img src=\"/part/%d\" alt=\"\">\n", i)
		}
		fmt.Fprintf(w, "<p>%s</p>\n", strings.Repeat("All the news of the day. ", 800))
	})
	mux.HandleFunc("GET /part/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseUint(r.PathValue("n"), 10, 8)
		w.Header().Set("Content-Type", "image/png")
		io.Copy(w, Body(n, 2000+1500*int64(n)))
	})
	mux.HandleFunc("GET /file/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		seed, _ := strconv.ParseUint(r.FormValue("seed"), 10, 64)
		rate, _ := strconv.ParseInt(r.FormValue("rate"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "how many bytes?", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		body := Body(seed, n)
		if rate <= 0 {
			io.Copy(w, body)
			return
		}
		// In pieces of two seconds, as players ask for them.
		for r.Context().Err() == nil {
			k, err := io.CopyN(w, body, 2*rate)
			if err != nil || k == 0 {
				return
			}
			http.NewResponseController(w).Flush()
			time.Sleep(2 * time.Second)
		}
	})
	return mux
}

// Serve serves bare on a plain listener, and pages on a TLS one and as HTTP/3 on a UDP socket if that is not nil, until ctx
// ends. The server is net/http with HTTP/2 of golang.org/x/net, as Caddy is.
func Serve(ctx context.Context, pages, bare http.Handler, conf *tls.Config, plain, secure net.Listener,
	quic net.PacketConn) error {
	// Two: a server that was first asked to serve without TLS does not speak HTTP/2 later.
	s := &http.Server{Handler: pages, ReadHeaderTimeout: time.Minute, TLSConfig: conf, ErrorLog: silent}
	//lint:ignore SA1019 it is what Caddy calls
	if err := http2.ConfigureServer(s, nil); err != nil {
		return err
	}
	s80 := &http.Server{Handler: bare, ReadHeaderTimeout: time.Minute, ErrorLog: silent}
	h3 := &http3.Server{Handler: s.Handler, TLSConfig: http3.ConfigureTLSConfig(conf)}
	stop := context.AfterFunc(ctx, func() {
		s.Close()
		s80.Close()
		h3.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() { errs[0] = s80.Serve(plain) })
	wg.Go(func() { errs[1] = s.ServeTLS(secure, "", "") })
	if quic != nil {
		wg.Go(func() { errs[2] = h3.Serve(quic) })
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, http.ErrServerClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// silent drops what net/http says of clients that a firewall cut off.
var silent = log.New(io.Discard, "", 0)

// A Dialer connects from one host of a lab.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Fetch says what to fetch, and how.
type Fetch struct {
	URL string
	// Dial connects to the proxy, or to the site; nil is this process's own network.
	Dial Dialer
	// Proxy is a SOCKS5 server, which looks names up; empty is none.
	Proxy string
	// Addr, if valid, is where to connect to, whatever the URL's name: without it, or a proxy, the system looks it up.
	Addr netip.Addr
	// Bytes and Seed say what a file must be; zero Bytes is for whatever comes.
	Bytes int64
	Seed  uint64
	// Timeout ends all of it; Silence ends it after so long without a byte. Zero is a minute each.
	Timeout, Silence time.Duration
	// CA, if not nil, is whom to trust; nil trusts anyone.
	CA *x509.CertPool
}

// step is the resolution of Result.Series.
const step = 200 * time.Millisecond

// Result is how it went. Times are from the beginning of Do.
type Result struct {
	Err       string        `json:"err,omitempty"`
	Status    int           `json:"status,omitempty"`
	FirstByte time.Duration `json:"first_byte,omitempty"` // of the answer's body
	Took      time.Duration `json:"took"`
	Bytes     int64         `json:"bytes"`
	// Right says that every byte was the right one and none is missing; only where that can be known.
	Right bool `json:"right,omitempty"`
	// Stall is the longest time without a byte once there was a first one, and StallAt when it began.
	Stall   time.Duration `json:"stall,omitempty"`
	StallAt time.Duration `json:"stall_at,omitempty"`
	// Series is how many bytes came in each 200 ms.
	Series []int64 `json:"series,omitempty"`
}

// OK reports whether all of it came, and was right where that can be known.
func (r Result) OK() bool { return r.Err == "" && r.Status == http.StatusOK }

// Do fetches. Each call is a new connection.
func (f Fetch) Do(ctx context.Context) (r Result) {
	begin := time.Now()
	orMinute := func(d time.Duration) time.Duration {
		if d == 0 {
			return time.Minute
		}
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, orMinute(f.Timeout))
	defer cancel()
	silence := time.AfterFunc(orMinute(f.Silence), cancel)
	defer silence.Stop()
	defer func() {
		r.Took = time.Since(begin)
		if r.Err != "" && !silence.Stop() && r.Bytes > 0 {
			r.Err = fmt.Sprintf("no byte for %v: %s", orMinute(f.Silence), r.Err)
		}
	}()
	fail := func(err error) Result {
		r.Err = err.Error()
		return r
	}
	client, err := f.client()
	if err != nil {
		return fail(err)
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return fail(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	r.Status = resp.StatusCode
	var want io.Reader
	if f.Bytes > 0 {
		want = Body(f.Seed, f.Bytes)
	}
	buf, expect := make([]byte, 64<<10), make([]byte, 64<<10)
	last := time.Duration(0)
	for {
		n, err := resp.Body.Read(buf)
		now := time.Since(begin)
		if n > 0 {
			silence.Reset(orMinute(f.Silence))
			switch {
			case r.Bytes == 0:
				r.FirstByte = now
			case now-last > r.Stall:
				r.Stall, r.StallAt = now-last, last
			}
			last = now
			for at := int(now / step); len(r.Series) <= at; {
				r.Series = append(r.Series, 0)
			}
			r.Series[len(r.Series)-1] += int64(n)
			r.Bytes += int64(n)
			if want != nil {
				if _, err := io.ReadFull(want, expect[:n]); err != nil || string(expect[:n]) != string(buf[:n]) {
					return fail(fmt.Errorf("wrong bytes before %d", r.Bytes))
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.Stall, r.StallAt = max(r.Stall, now-last), last
			return fail(err)
		}
	}
	if want != nil && r.Bytes != f.Bytes {
		return fail(fmt.Errorf("%d of %d bytes came", r.Bytes, f.Bytes))
	}
	r.Right = want != nil
	return r
}

func (f Fetch) client() (*http.Client, error) {
	dial := f.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	if f.Proxy != "" {
		d, err := proxy.SOCKS5("tcp", f.Proxy, nil, dialer{dial})
		if err != nil {
			return nil, err
		}
		dial = d.(proxy.ContextDialer).DialContext
	} else if f.Addr.IsValid() {
		direct := dial
		dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return direct(ctx, network, net.JoinHostPort(f.Addr.String(), port))
		}
	}
	conf := &tls.Config{RootCAs: f.CA, InsecureSkipVerify: f.CA == nil} // the site is a lab's: whom would one trust?
	return &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: conf, ForceAttemptHTTP2: true,
		DisableCompression: true}}, nil
}

// dialer is a Dialer as package proxy wants it.
type dialer struct{ dial Dialer }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.dial(context.Background(), network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.dial(ctx, network, address)
}
