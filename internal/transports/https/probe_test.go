package https_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// These tests probe the gateway's website as a censor would (B2, B3 and B11 of what has been measured of them), beside two
// servers that are nothing but net/http and x/net/http2 with the same files and certificate. What Go's server answers is
// not always the same: its frames race each other. So outcomes are counted over interleaved rounds, and the gateway must
// differ from the two no more than they may differ from each other.

var (
	probeRounds = flag.Int("probes", 8, "how often each probe is tried on each server")
	probeEvery  = flag.Int("lengths", 37, "try every n-th length of random bytes from 1 to 8192")
)

// A probe talks to a server and says what it saw.
type probe struct {
	name string
	slow bool // waits for the server's patience to end
	run  func(p *prober) string
}

// prober is one try of a probe.
type prober struct {
	w     transporttest.World // the server
	grown transporttest.World // the gateway: where knocks are good
	hello []byte              // a recorded ClientHello, its record included
	tcp   *net.TCPConn
	seen  recorder
}

// patience is longer than any of the servers' timeouts that the probes meet.
const patience = 14 * time.Second

// recorder keeps what came from the server. Once quiet is set it calls that when nothing has come for a while.
type recorder struct {
	net.Conn
	in    bytes.Buffer
	quiet func()
}

// aWhile is longer than a server on this machine takes to answer.
const aWhile = 80 * time.Millisecond

func (r *recorder) Read(b []byte) (int, error) {
	var t *time.Timer
	if r.quiet != nil {
		t = time.AfterFunc(aWhile, r.quiet)
	}
	n, err := r.Conn.Read(b)
	r.in.Write(b[:n])
	if t != nil {
		t.Stop()
	}
	return n, err
}

func (p *prober) dial() error {
	c, err := net.Dial("tcp", p.w.Endpoint.Addr)
	if err != nil {
		return err
	}
	p.tcp = c.(*net.TCPConn)
	p.seen = recorder{Conn: c}
	return c.SetDeadline(time.Now().Add(patience))
}

// end reads to the end of the connection and says what came and how it ended, and about when.
func (p *prober) end(began time.Time) string {
	_, err := io.Copy(io.Discard, &p.seen)
	return records(p.seen.in.Bytes()) + " " + ending(err) + " " + about(time.Since(began))
}

func ending(err error) string {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return "FIN"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "RST"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "open"
	}
	return err.Error()
}

// about is a time as coarse as a shared machine allows.
func about(d time.Duration) string {
	switch {
	case d < 700*time.Millisecond:
		return "at once"
	case d < 5*time.Second:
		return "soon"
	case d < 8*time.Second:
		return "at 6 s"
	case d < 12*time.Second:
		return "at 10 s"
	}
	return "late"
}

// records names the TLS records in b, or whatever else it is.
func records(b []byte) string {
	var out []string
	for len(b) > 0 {
		if len(b) < 5 || b[0] < 20 || b[0] > 23 || b[1] != 3 {
			return strings.Join(append(out, fmt.Sprintf("%q", dateless(b))), " ")
		}
		n := int(binary.BigEndian.Uint16(b[3:]))
		if len(b) < 5+n {
			return strings.Join(append(out, "cut"), " ")
		}
		what := fmt.Sprintf("%d:%d", b[0], n)
		if b[0] == 21 && n == 2 {
			what += "=" + hex.EncodeToString(b[5:7])
		}
		if b[0] == 22 { // a certificate's signature has no fixed length
			what = "22"
		}
		out = append(out, what)
		b = b[5+n:]
	}
	return strings.Join(out, " ")
}

func dateless(b []byte) []byte {
	if i := bytes.Index(b, []byte("Date: ")); i >= 0 && len(b) > i+35 {
		b = append(bytes.Clone(b[:i]), b[i+35:]...)
	}
	return b
}

// raw sends bytes as they are and looks, and closes its half when nothing more comes, if it is to.
func raw(half bool, parts ...[]byte) func(*prober) string {
	return func(p *prober) string {
		if err := p.dial(); err != nil {
			return err.Error()
		}
		defer p.tcp.Close()
		began := time.Now()
		for i, b := range parts {
			if i > 0 {
				time.Sleep(3 * time.Millisecond)
			}
			p.tcp.Write(b)
		}
		if half {
			p.seen.quiet = func() { p.tcp.CloseWrite() }
		}
		return p.end(began)
	}
}

// withHello sends the recorded ClientHello, changed.
func withHello(half bool, change func(hello []byte) [][]byte) func(*prober) string {
	return func(p *prober) string { return raw(half, change(bytes.Clone(p.hello))...)(p) }
}

// over completes a TLS handshake, sends what f makes of it, and reads to the end: HTTP/2 frames by name, or text. It
// closes its half as raw does.
func over(config *tls.Config, half bool, f func(p *prober, c *tls.Conn) [][]byte) func(*prober) string {
	return func(p *prober) string {
		if err := p.dial(); err != nil {
			return err.Error()
		}
		defer p.tcp.Close()
		began := time.Now()
		config := config.Clone()
		config.InsecureSkipVerify, config.ServerName = true, p.w.Endpoint.Name
		c := tls.Client(&p.seen, config)
		if err := c.Handshake(); err != nil {
			return "no handshake: " + tlsError(err) + " " + p.end(began)
		}
		for i, b := range f(p, c) {
			if i > 0 {
				time.Sleep(3 * time.Millisecond)
			}
			if len(b) > 0 {
				c.Write(b)
			}
		}
		if half {
			p.seen.quiet = sync.OnceFunc(func() {
				c.CloseWrite()
				p.tcp.CloseWrite()
			})
		}
		var got bytes.Buffer
		_, err := io.Copy(&got, c)
		what := "FIN after close_notify"
		if err != nil {
			what = tlsError(err)
		}
		_, err = io.Copy(io.Discard, &p.seen)
		return c.ConnectionState().NegotiatedProtocol + " " + inside(got.Bytes()) + " " + what + ", " + ending(err) + " " +
			about(time.Since(began))
	}
}

func tlsError(err error) string {
	if e := ending(err); len(e) <= 4 {
		return e
	}
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert) {
		return alert.Error()
	} else if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return err.Error()
}

// inside names HTTP/2 frames, or quotes what is none. Frames that race each other are told apart by being counted, the
// page's own by its length.
func inside(b []byte) string {
	var out []string
	for len(b) > 0 {
		if len(b) < 9 || b[0] != 0 && !bytes.HasPrefix(b, []byte("HTTP/")) {
			return strings.Join(append(out, fmt.Sprintf("+%d bytes", len(b))), " ")
		}
		if b[0] != 0 {
			return strings.Join(append(out, fmt.Sprintf("%q", dateless(b))), " ")
		}
		n := int(binary.BigEndian.Uint32(b) >> 8)
		if len(b) < 9+n {
			return strings.Join(append(out, "cut"), " ")
		}
		what := fmt.Sprintf("%v/%d:%d", http2.FrameType(b[3]), b[4], n)
		if http2.FrameType(b[3]) == http2.FrameGoAway || http2.FrameType(b[3]) == http2.FrameRSTStream {
			what += "=" + hex.EncodeToString(b[9:9+min(n, 8)])
		}
		out = append(out, what)
		b = b[9+n:]
	}
	return strings.Join(out, " ")
}

// plain is a website of net/http and x/net/http2 alone.
func plain(t *testing.T, cert tls.Certificate) transporttest.World {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: website, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: quiet}
	//lint:ignore SA1019 the same HTTP/2 as the gateway's
	if err := http2.ConfigureServer(server, nil); err != nil {
		t.Fatal(err)
	}
	go server.ServeTLS(tcp, "", "")
	t.Cleanup(func() { server.Close() })
	w := transporttest.World{}
	w.Endpoint.Addr, w.Endpoint.Name = tcp.Addr().String(), "site.example"
	w.Endpoint.Pins = [][32]byte{transport.KeyHash(cert.Leaf)}
	return w
}

// servers are the gateway and the two others.
func servers(t *testing.T) (gateway transporttest.World, all []transporttest.World, hello []byte) {
	cert, _ := certificate(t)
	gateway = startWith(t, cert)
	// Nobody takes what comes through the door: it must not open.
	go func() {
		if c, err := gateway.Listener.Accept(); err == nil {
			c.Close()
			t.Error("a probe opened the door")
		}
	}()
	near, far := net.Pipe()
	defer far.Close()
	go tls.Client(near, &tls.Config{ServerName: "site.example", NextProtos: []string{"h2"}}).Handshake()
	hello = make([]byte, 16<<10)
	n, err := far.Read(hello) // it is written in one piece
	if err != nil {
		t.Fatal(err)
	}
	return gateway, []transporttest.World{gateway, plain(t, cert), plain(t, cert)}, hello[:n]
}

func TestProbes(t *testing.T) {
	if len(probes) < 60 {
		t.Fatalf("%d probes, 60 were promised", len(probes))
	}
	gateway, all, hello := servers(t)
	// As many at once as a website would have visitors, and the gateway allows from one place.
	slots := make(chan struct{}, 16)
	type seen [3]map[string]int
	results := make([]seen, len(probes))
	took := make([]time.Duration, len(probes))
	var mu sync.Mutex
	try := func(i, server int) {
		began := time.Now()
		got := probes[i].run(&prober{w: all[server], grown: gateway, hello: hello})
		mu.Lock()
		defer mu.Unlock()
		if results[i][server] == nil {
			results[i][server] = map[string]int{}
		}
		results[i][server][got]++
		took[i] = max(took[i], time.Since(began))
	}
	var wg sync.WaitGroup
	for range *probeRounds {
		for i, pr := range probes {
			if pr.slow {
				continue
			}
			for _, s := range mrand.Perm(3) {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					try(i, s)
				})
			}
		}
	}
	wg.Wait()
	for range max(1, *probeRounds/24) { // the slow ones, all at once
		for i, pr := range probes {
			if !pr.slow {
				continue
			}
			for s := range 6 {
				wg.Go(func() { try(i, s%3) })
			}
		}
		wg.Wait()
	}
	for i, pr := range probes {
		r := results[i]
		ours, floor := unlikely(r[0], r[1], r[2]), unlikely(r[1], r[2])
		if testing.Verbose() {
			t.Logf("%-42s chance %.3f (between the others %.3f), %d outcomes, %v", pr.name, ours, floor,
				len(union(r[0], r[1], r[2])), took[i].Round(time.Millisecond))
		}
		if ours < 1e-5 {
			t.Errorf("%s: the gateway is told apart (chance %.2g; between the others %.2g)\n%s", pr.name, ours, floor, table(r[:]))
		}
	}
}

// TestLengths sends random bytes of many lengths: the length at which a server changes its mind names programs.
func TestLengths(t *testing.T) {
	_, all, _ := servers(t)
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for n := 1 + mrand.IntN(*probeEvery); n <= 8192; n += *probeEvery {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b := random(n)
			for b[0] >= 20 && b[0] <= 23 { // one in 64 would begin like a record, and be waited for
				b = random(n)
			}
			for _, half := range []bool{true, false} {
				if !half && n < 5 {
					continue // less than a record's head is waited for
				}
				var got [3]map[string]int
				for range 6 {
					for s := range all {
						if got[s] == nil {
							got[s] = map[string]int{}
						}
						got[s][raw(half, b)(&prober{w: all[s]})]++
					}
					if len(union(got[0], got[1], got[2])) == 1 {
						break
					}
				}
				if unlikely(got[0], got[1], got[2]) < 1e-5 {
					t.Errorf("%d random bytes, half closed %v:\n%s", n, half, table(got[:]))
				}
			}
		})
	}
	wg.Wait()
}

func union(all ...map[string]int) map[string]int {
	sum := map[string]int{}
	for _, m := range all {
		for k, n := range m {
			sum[k] += n
		}
	}
	return sum
}

func table(all []map[string]int) string {
	var b strings.Builder
	for k := range union(all...) {
		for _, m := range all {
			fmt.Fprintf(&b, "%6d", m[k])
		}
		fmt.Fprintf(&b, "  %.300s\n", k)
	}
	return b.String()
}

// unlikely is the chance that a and the others together, if they were alike, would differ as much as they do: a
// permutation test on the statistic of Pearson's chi-squared.
func unlikely(a map[string]int, others ...map[string]int) float64 {
	b := union(others...)
	names := make([]string, 0, len(a)+len(b))
	for k := range union(a, b) {
		names = append(names, k)
	}
	slices.Sort(names)
	if len(names) < 2 {
		return 1
	}
	var all []int // an outcome each
	counts := func(m map[string]int) (c []int, n int) {
		for i, k := range names {
			c = append(c, m[k])
			n += m[k]
			for range m[k] {
				all = append(all, i)
			}
		}
		return c, n
	}
	ca, na := counts(a)
	cb, nb := counts(b)
	stat := func(ca, cb []int) (x float64) {
		for i := range names {
			total := float64(ca[i] + cb[i])
			ea, eb := total*float64(na)/float64(na+nb), total*float64(nb)/float64(na+nb)
			x += math.Pow(float64(ca[i])-ea, 2)/ea + math.Pow(float64(cb[i])-eb, 2)/eb
		}
		return x
	}
	seen, more := stat(ca, cb), 0
	const tries = 200_000
	for try := 1; try <= tries; try++ {
		mrand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		pa, pb := make([]int, len(names)), make([]int, len(names))
		for i, k := range all {
			if i < na {
				pa[k]++
			} else {
				pb[k]++
			}
		}
		if stat(pa, pb) >= seen-1e-9 {
			if more++; more >= 10 { // known well enough
				return float64(more) / float64(try)
			}
		}
	}
	return float64(more) / tries
}
