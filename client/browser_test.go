package client_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// onlooker stands between a client and a gateway, and keeps each connection's first message.
type onlooker struct {
	l      net.Listener
	mu     sync.Mutex
	hellos []*clienthello.Hello
	conns  []net.Conn
}

// between puts an onlooker before the first of the key's endpoints.
func between(t *testing.T, key *accesskey.Key) *onlooker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o, to := &onlooker{l: l}, key.Endpoints[0].Addr()
	var carrying sync.WaitGroup
	t.Cleanup(func() { l.Close(); o.cut(); carrying.Wait() })
	carrying.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() { o.carry(t, c, to) })
		}
	})
	key.Endpoints = slices.Clone(key.Endpoints[:1])
	key.Endpoints[0].Port = parsePort(t, port(t, l.Addr()))
	return o
}

func (o *onlooker) carry(t *testing.T, near net.Conn, to string) {
	defer near.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(near, head); err != nil {
		return
	}
	record := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	if _, err := io.ReadFull(near, record[5:]); err != nil {
		return
	}
	h, err := clienthello.ParseHello(record)
	if err != nil {
		t.Errorf("a connection began with something else: %v", err)
		return
	}
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	o.mu.Lock()
	o.hellos, o.conns = append(o.hellos, h), append(o.conns, near, far)
	o.mu.Unlock()
	if _, err := far.Write(record); err != nil {
		return
	}
	back := make(chan struct{})
	go func() { defer close(back); io.Copy(near, far); near.Close() }()
	io.Copy(far, near)
	far.Close()
	<-back
}

// cut ends all connections.
func (o *onlooker) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		c.Close()
	}
	o.conns = nil
}

// next cuts all connections and returns the first message of the one that comes thereafter.
func (o *onlooker) next(t *testing.T) *clienthello.Hello {
	t.Helper()
	o.mu.Lock()
	seen := len(o.hellos)
	o.mu.Unlock()
	o.cut()
	return o.hello(t, seen)
}

// hello returns the i-th, waiting for it.
func (o *onlooker) hello(t *testing.T, i int) (h *clienthello.Hello) {
	t.Helper()
	eventually(t, "another connection", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.hellos) > i {
			h = o.hellos[i]
		}
		return h != nil
	})
	return h
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

const trustAnchors = 0xca34

// chromeWith is today's Chrome with other trust anchors.
func chromeWith(t *testing.T, anchors string) []byte {
	t.Helper()
	text, err := os.ReadFile("../internal/transports/https/chrome/chrome.json")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(text, []byte(`"name": "trust_anchors",`))
	_, after, ok2 := bytes.Cut(rest, []byte("}"))
	if !ok || !ok2 {
		t.Fatal("the profile has no trust anchors")
	}
	return slices.Concat(before, []byte(`"name": "trust_anchors", "body": "`+anchors+`"}`), after)
}

func anchorsOf(t *testing.T, h *clienthello.Hello) string {
	t.Helper()
	body, ok := h.Extension(trustAnchors)
	if !ok {
		t.Fatal("a hello without trust anchors")
	}
	return hex.EncodeToString(body)
}

// lines is a log that can be read while it grows.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// startOnce runs a client until it is stopped, or the test ends.
func startOnce(t *testing.T, cfg client.Config) (c *client.Client, stop func()) {
	t.Helper()
	cfg.Logger = logger(t)
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // nobody may wait for it yet
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the client ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}

// A gateway offers a profile while it runs; a client that asks looks like it from its next connection on, and still does
// when it has been started anew and there is no gateway that offers one.
func TestNewerBrowser(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	key := w.key
	o := between(t, &key)
	cfg := client.Config{Key: key, StateDir: filepath.Join(t.TempDir(), "state"), Browser: "chrome", Links: 1}

	// Nobody offers anything.
	before, stop := startOnce(t, cfg)
	page := site(t, []byte("hello")).URL
	fetch(t, before, page, []byte("hello")) // it asks when it is used
	if st := before.Status().Browser; st.Family != "chrome" || st.Source != "built-in" || !st.Date.Equal(chrome.BuiltIn("chrome").Date()) {
		t.Errorf("at first: %+v", st)
	}
	builtIn := anchorsOf(t, o.hello(t, 0))
	if got := anchorsOf(t, o.next(t)); got != builtIn || len(got) < 100 {
		t.Errorf("without a newer one: %s", got)
	}
	stop()

	// The operator adds one, and the next run asks.
	added, err := w.dir.AddBrowser(chromeWith(t, "0002aabb"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, stop := startOnce(t, cfg)
	fetch(t, c, page, []byte("hello"))
	eventually(t, "the newer browser", func() bool { return c.Status().Browser.Source == "network" })
	if st := c.Status().Browser; !st.Date.Equal(added.Date()) {
		t.Errorf("%+v, added %v", st, added.Date())
	}
	eventually(t, "the next connection", func() bool { return anchorsOf(t, o.next(t)) == "0002aabb" })
	fetch(t, c, page, []byte("hello"))
	if info, err := os.Stat(filepath.Join(cfg.StateDir, "browser.chrome")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("what is kept: %v, %v", info, err)
	}

	// It is kept; one that the gateway has not any more is not forgotten, nor is a new one that is older taken.
	if err := w.dir.RemoveBrowser("chrome"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dir.AddBrowser(chromeWith(t, "0002ccdd"), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	stop()
	o.mu.Lock()
	seen := len(o.hellos)
	o.mu.Unlock()
	again, _ := startOnce(t, cfg)
	fetch(t, again, page, []byte("hello"))
	for _, h := range []*clienthello.Hello{o.hello(t, seen), o.next(t)} {
		if got := anchorsOf(t, h); got != "0002aabb" {
			t.Errorf("after a restart: %s", got)
		}
	}
	if st := again.Status().Browser; !st.Date.Equal(added.Date()) {
		t.Errorf("after a restart: %+v", st)
	}
}

// What another key has signed is ignored, with one line in the log, and nothing else happens.
func TestForeignBrowser(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	if _, err := w.dir.AddBrowser(chromeWith(t, "0002aabb"), time.Now()); err != nil {
		t.Fatal(err)
	}
	key := w.key
	key.DirectoryKey = newWorld(t).key.DirectoryKey // another network's
	o := between(t, &key)
	log := new(lines)
	c, _ := start(t, client.Config{Key: key, StateDir: filepath.Join(t.TempDir(), "state"), Browser: "chrome", Links: 1,
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	fetch(t, c, site(t, []byte("hello")).URL, []byte("hello"))
	eventually(t, "a line in the log", func() bool { return log.count("ignored") > 0 })
	if got := anchorsOf(t, o.next(t)); got == "0002aabb" {
		t.Error("the foreign profile is in use")
	}
	ready(t, c)
	fetch(t, c, site(t, []byte("hello")).URL, []byte("hello"))
	if st := c.Status().Browser; st.Source != "built-in" || log.count("ignored") != 1 {
		t.Errorf("%+v, and %d lines", st, log.count("ignored"))
	}
}

// What a gateway answers itself it dials nowhere, and applications cannot ask it.
func TestQuestions(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	added, err := w.dir.AddBrowser(chromeWith(t, "0002aabb"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, _ := start(t, client.Config{Key: w.key, Browser: "firefox"})
	ready(t, c)
	later := wire.BrowserAsk{Family: "chrome", Date: added.Date().Unix()}.Host()
	for host, want := range map[string]flow.Code{
		"/browser/safari/0": flow.CodeNameNotFound, "/browser/firefox/0": flow.CodeNameNotFound, later: flow.CodeNameNotFound,
		"/browser/chrome/00": flow.CodeBadTarget, "/browser": flow.CodeBadTarget, "/": flow.CodeBadTarget,
	} {
		if _, err := c.Open(t.Context(), flow.Target{Host: host}, false); flow.CodeOf(err) != want {
			t.Errorf("%s: %v, want %v", host, err, want)
		}
	}
	if _, err := c.Dial(t.Context(), "tcp", "/browser/chrome/0:443"); flow.CodeOf(err) != flow.CodeBadTarget {
		t.Errorf("an application asks: %v", err)
	}
	for range 300 { // more than a device may have under way: each makes room
		st, err := c.Open(t.Context(), flow.Target{Host: "/browser/chrome/0"}, false)
		if err != nil {
			t.Fatal(err)
		}
		st.SetDeadline(time.Now().Add(20 * time.Second))
		st.CloseWrite()
		got, err := io.ReadAll(st)
		if b, verr := chrome.Verify(got, w.key.DirectoryKey); err != nil || verr != nil || !b.Date().Equal(added.Date()) {
			t.Fatalf("%d bytes: %v, %v", len(got), err, verr)
		}
		st.Close()
	}
	// Who says more than there is to say is reset, and alone.
	st, err := c.Open(t.Context(), flow.Target{Host: "/browser/chrome/0"}, false)
	if err != nil {
		t.Fatal(err)
	}
	st.SetDeadline(time.Now().Add(20 * time.Second))
	for err == nil {
		_, err = st.Write(make([]byte, 1000))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a gateway takes whatever follows a question")
	}
	fetch(t, c, site(t, []byte("hello")).URL, []byte("hello"))
}

// Without being told, a device looks like one browser all its life.
func TestBrowserOfDevice(t *testing.T) {
	t.Parallel()
	key := newWorld(t).key
	dir := filepath.Join(t.TempDir(), "state")
	for range 2 {
		c, err := client.New(client.Config{Key: key, StateDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		k, err := device.Load(filepath.Join(dir, device.KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.Status().Browser.Family, string(chrome.FamilyOf(k.Public())); got != want {
			t.Errorf("looks like %s, want %s", got, want)
		}
	}
	c, err := client.New(client.Config{Key: key, StateDir: dir, Browser: "firefox"})
	if err != nil || c.Status().Browser.Family != "firefox" {
		t.Errorf("asked for firefox: %v", err)
	}
	if _, err := client.New(client.Config{Key: key, Browser: "lynx"}); err == nil || !strings.Contains(err.Error(), "field Browser") {
		t.Errorf("asked for lynx: %v", err)
	}
}
