package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// output is a screen's text while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// The whole demo passes, says so, and leaves nothing behind; while it is held its proxy works for anybody on the
// machine.
func TestRun(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out output
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		result, err := Run(ctx, Config{Size: 6e6, Lasting: 3 * time.Second, Hold: true, Screen: Screen{W: &out}})
		if err != nil || !result.OK || len(result.Cuts) != 2 || result.Download.Bytes != 6e6 ||
			result.Download.Expect != result.Download.Got || result.Download.Got == strings.Repeat("0", 64) {
			t.Errorf("%+v, %v", result, err)
		}
		for _, c := range result.Cuts {
			if c.Link == 0 || c.TookOver == 0 || c.Link == c.TookOver || c.Pause <= 0 {
				t.Errorf("cut %+v", c)
			}
		}
	}()
	curl := regexp.MustCompile(`--proxy socks5h://(\S+) (http://\S+/)`)
	var found []string
	for found == nil {
		select {
		case <-ended:
			t.Fatalf("it did not hold:\n%s", &out)
		case <-time.After(50 * time.Millisecond):
			found = curl.FindStringSubmatch(out.String())
		}
	}
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5h", Host: found[1]})}
	resp, err := (&http.Client{Transport: tr}).Get(found[2])
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(text) != page || err != nil {
		t.Errorf("the page is %q, %v", text, err)
	}
	tr.CloseIdleConnections()
	cancel()
	<-ended
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); left != nil {
		t.Errorf("it left %q behind", left)
	}
	if text := out.String(); strings.Contains(text, "\x1b") || strings.Contains(text, "godwit://") {
		t.Errorf("colours outside of a terminal, or an access key:\n%s", text)
	}
	t.Logf("\n%s", &out)
}

// Interrupted, it says so rather than that something failed.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	var out output
	result, err := Run(ctx, Config{Size: 6e6, Lasting: 6 * time.Second, Screen: Screen{W: &out}})
	if !errors.Is(err, context.DeadlineExceeded) || result.OK || strings.Contains(out.String(), "✗") {
		t.Errorf("%v, ok %v:\n%s", err, result.OK, &out)
	}
}

// crossing makes a network and one connection across it, and returns both ends.
func crossing(t *testing.T) (n *network, near, far *net.TCPConn) {
	t.Helper()
	gw, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Close()
	if n, err = newNetwork(); err != nil {
		t.Fatal(err)
	}
	n.to = gw.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.run(ctx) }()
	c, err := net.DialTCP("tcp", nil, n.l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	g, err := gw.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the network ended with %v", err)
		}
		c.Close()
		g.Close()
	})
	before := n.counts()
	if _, err := g.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for n.busiest(before) == nil { // it counts after it has forwarded
		time.Sleep(time.Millisecond)
	}
	return n, c, g
}

func TestNetworkReset(t *testing.T) {
	t.Parallel()
	n, near, far := crossing(t)
	n.busiest(nil).reset()
	for end, c := range map[string]*net.TCPConn{"client": near, "gateway": far} {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the %s's end read %v, want a reset", end, err)
		}
	}
}

func TestNetworkSwallows(t *testing.T) {
	t.Parallel()
	n, near, far := crossing(t)
	n.busiest(nil).swallow()
	for end, c := range map[string][2]*net.TCPConn{"client": {near, far}, "gateway": {far, near}} {
		if _, err := c[0].Write([]byte("lost")); err != nil {
			t.Errorf("the %s's end was told: %v", end, err)
		}
		c[1].SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if got, err := c[1].Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("what the %s sent: %d bytes and %v came, want silence", end, got, err)
		}
	}
}

// An end that closes is heard of at the other one, as without a network in between.
func TestNetworkCloses(t *testing.T) {
	t.Parallel()
	_, near, far := crossing(t)
	near.CloseWrite()
	far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after a half-close: %v", err)
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
		t.Errorf("the other direction: %v", err)
	}
}

func TestGrown(t *testing.T) {
	t.Parallel()
	since := map[uint64]uint64{1: 100, 2: 50}
	now := map[uint64]uint64{1: 400, 2: 60, 3: 200}
	for except, want := range map[uint64]uint64{0: 1, 1: 3, 3: 1} {
		if got := grown(since, now, except); got != want {
			t.Errorf("except %d: %d, want %d", except, got, want)
		}
	}
	if got := grown(now, now, 0); got != 0 {
		t.Errorf("nothing grew: %d", got)
	}
}

// A download that comes damaged or short is not passed off as whole.
func TestDownloadBreaks(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(make([]byte, 500))
	})}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	defer func() { srv.Close(); <-done }()
	tr := new(http.Transport)
	defer tr.CloseIdleConnections()
	d := startDownload(t.Context(), &http.Client{Transport: tr}, "http://"+l.Addr().String()+"/")
	<-d.done
	if bytes, _, _ := d.progress(); d.err == nil || bytes != 500 {
		t.Errorf("half of it: %d bytes, %v", bytes, d.err)
	}
}
