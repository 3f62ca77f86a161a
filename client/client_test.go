package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

// world is a gateway, started as the command starts it, whose egress may reach this machine.
type world struct {
	dir *gatewaydir.Dir
	key accesskey.Key
}

func logger(t *testing.T) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldAt(t, "127.0.0.1")
}

func newWorldAt(t *testing.T, host string) *world {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir, made, err := gatewaydir.Init(t.Context(), t.TempDir(), []string{addr}, logger(t))
	if err != nil || !made {
		t.Fatalf("making a gateway: %v, made %v", err, made)
	}
	t.Cleanup(func() { dir.Close() })
	dir.Settings.Listen = []string{addr}
	dir.Settings.Egress.Allow = []string{"127.0.0.0/8", "::1/128"}
	k, err := dir.Control.KeyByName(t.Context(), gatewaydir.FirstKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return &world{dir: dir, key: key}
}

// run starts the gateway and returns a function that stops it.
func (w *world) run(t *testing.T) (stop func()) {
	t.Helper()
	g, err := w.dir.Service(logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // the gateway must not wait for us
	go func() { done <- g.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		g.Close()
	}
	t.Cleanup(stop)
	return stop
}

// start runs a client until the test ends.
func start(t *testing.T, cfg client.Config) (*client.Client, chan error) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = logger(t)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, run(t, c)
}

// run runs a client until the test ends.
func run(t *testing.T, c *client.Client) (done chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	done = make(chan error, 1) // read here or by the test
	ended := make(chan struct{})
	go func() { done <- c.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return done
}

func ready(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

func site(t *testing.T, content []byte) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(content)
	}))
	t.Cleanup(s.Close)
	return s
}

// fetch fails the test unless a URL is this content, fetched through the client.
func fetch(t *testing.T, c *client.Client, url string, content []byte) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DialContext: c.Dial}}
	defer h.CloseIdleConnections()
	resp, err := h.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(content) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(content), err)
	}
}

func TestFetch(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	content := bytes.Repeat([]byte("godwit"), 1<<20)
	s := site(t, content)
	c, _ := start(t, client.Config{Key: w.key, StateDir: filepath.Join(t.TempDir(), "state")})
	ready(t, c)
	fetch(t, c, s.URL, content)
	if st := c.Status(); st.State != client.Connected || len(st.Links) == 0 || st.Received < uint64(len(content)) {
		t.Errorf("status %+v", st)
	}
}

func TestProxy(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	s := site(t, []byte("hello"))
	c, _ := start(t, client.Config{Key: w.key})
	ready(t, c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.ServeProxy(ctx, l); close(done) }()
	defer func() { cancel(); <-done }()
	for _, scheme := range []string{"socks5", "http"} {
		u := &url.URL{Scheme: scheme, Host: l.Addr().String()}
		tr := &http.Transport{Proxy: http.ProxyURL(u)}
		// Go's client does not proxy to 127.0.0.1 by its address, so the site is asked for by a name of it.
		resp, err := (&http.Client{Transport: tr}).Get(s.URL)
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "hello" {
			t.Errorf("%s: got %q", scheme, b)
		}
		tr.CloseIdleConnections()
	}
}

// Restarting the gateway ends the streams cleanly, and the client is back by itself.
func TestGatewayRestarts(t *testing.T) {
	w := newWorld(t)
	stop := w.run(t)
	echo := echoServer(t)
	c, _ := start(t, client.Config{Key: w.key, StateDir: filepath.Join(t.TempDir(), "state")})
	ready(t, c)
	conn, err := c.Dial(t.Context(), "tcp", echo)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a stream of a gateway that stopped read %v", err)
	}
	w.run(t)
	deadline := time.Now().Add(20 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		conn, err = c.Dial(ctx, "tcp", echo)
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the client is not back: %v, %+v", err, c.Status())
		}
	}
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("a stream after the restart: %v", err)
	}
	conn.Close()
}

// A revoked device's session ends within a second, and it is told why.
func TestRevocation(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	c, done := start(t, client.Config{Key: w.key, StateDir: filepath.Join(t.TempDir(), "state")})
	ready(t, c)
	revoked := time.Now()
	if _, err := w.dir.Control.RevokeDevice(t.Context(), c.Status().Device); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, client.ErrRefused) {
			t.Errorf("the client ended with %v", err)
		}
		t.Logf("told after %v", time.Since(revoked))
	case <-time.After(10 * time.Second):
		t.Errorf("the client still runs: %+v", c.Status())
	}
}

// oneDevice makes an access key for a single device.
func (w *world) oneDevice(t *testing.T) accesskey.Key {
	t.Helper()
	k, err := w.dir.Control.AddKey(t.Context(), control.AccessKey{Name: "one device", MaxDevices: 1})
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTooManyDevices(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	key := w.oneDevice(t)
	first, _ := start(t, client.Config{Key: key})
	ready(t, first)
	_, done := start(t, client.Config{Key: key})
	select {
	case err := <-done:
		if !errors.Is(err, client.ErrRefused) {
			t.Errorf("the second device ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second device was not refused")
	}
}

func TestUDP(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			echo.WriteTo(b[:n], from)
		}
	}()
	c, _ := start(t, client.Config{Key: w.key})
	ready(t, c)
	p, err := c.ListenPacket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := p.WriteTo([]byte("ping"), echo.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, from, err := p.ReadFrom(b)
	if err != nil || string(b[:n]) != "ping" || from.String() != echo.LocalAddr().String() {
		t.Errorf("got %q from %v, %v", b[:n], from, err)
	}
}

func parsePort(t *testing.T, s string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

func TestShapeField(t *testing.T) {
	key := newWorld(t).key
	if _, err := client.New(client.Config{Key: key, Shape: "loud"}); err == nil || !strings.Contains(err.Error(), "field Shape") {
		t.Errorf("an unknown level gave %v", err)
	}
	for _, level := range []string{"", "off", "low", "high"} {
		if _, err := client.New(client.Config{Key: key, Shape: level}); err != nil {
			t.Errorf("level %q gave %v", level, err)
		}
	}
}
