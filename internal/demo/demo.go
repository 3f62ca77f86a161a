// Package demo shows on one machine what Godwit is for: it makes a gateway, a client, two web sites and a network
// between them that it cuts in the middle of a download, and checks that all arrives whole.
//
//	visitor ─ proxy ─ client ═ links ═ network (cuts) ═ gateway ─ web sites
//
// Everything is on loopback addresses and in one temporary directory, and gone afterwards.
package demo

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

const (
	// DefaultSize is the download's size, in bytes.
	DefaultSize = 200e6
	// DefaultLasting is how long the download takes without pauses: enough to watch.
	DefaultLasting = 8 * time.Second

	// patience bounds every step but the download, which may take as long again as it should.
	patience = 20 * time.Second
)

// Config says how to show it. Zero values mean what each field says.
type Config struct {
	// Size is the download's size in bytes; 0 means DefaultSize.
	Size int64
	// Lasting is how long the download takes; 0 means DefaultLasting.
	Lasting time.Duration
	// Hold leaves everything running after the checks, until ctx is done.
	Hold   bool
	Screen Screen
	// Logger gets what the client and the gateway log; nil discards it.
	Logger *slog.Logger
}

// Result is what came of it.
type Result struct {
	OK       bool     `json:"ok"`
	Checks   []Check  `json:"checks"`
	Cuts     []Cut    `json:"cuts"`
	Download Download `json:"download"`
}

// Check is one thing that must be so.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Cut is one cut of the link that carried the download.
type Cut struct {
	Kind     string  `json:"kind"` // reset, black hole
	AtBytes  int64   `json:"at_bytes"`
	Link     uint64  `json:"link"`
	TookOver uint64  `json:"took_over_link"`
	Pause    float64 `json:"pause_ms"` // the longest without a byte for the visitor
}

// Download is the large file.
type Download struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	Expect  string  `json:"sha256_sent"`
	Got     string  `json:"sha256_received"`
}

// ErrFailed is returned when a check failed.
var ErrFailed = errors.New("the demo failed")

// show is one run of the demo.
type show struct {
	cfg    Config
	screen Screen
	result Result

	net     *network
	sites   *sites
	gateway *gatewaydir.Service
	client  *client.Client
	key     accesskey.Key
	proxy   string
	visitor *http.Client

	mu     sync.Mutex
	events []client.Event
}

// Run shows it and returns what came of it; the error matches ErrFailed if a check failed, and says what else went
// wrong otherwise. It owns every goroutine it starts.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Size == 0 {
		cfg.Size = DefaultSize
	}
	if cfg.Lasting == 0 {
		cfg.Lasting = DefaultLasting
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "godwit-demo-")
	if err != nil {
		return Result{}, fmt.Errorf("making a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	s := &show{cfg: cfg, screen: cfg.Screen}
	err = s.withWorld(ctx, dir, func(ctx context.Context) error {
		err := s.checks(ctx)
		if err == nil && cfg.Hold {
			s.hold(ctx)
		}
		return err
	})
	if err == nil && !s.result.OK {
		err = ErrFailed
	}
	if ctx.Err() != nil && !s.result.OK {
		err = ctx.Err()
	}
	return s.result, err
}

// check notes and shows the outcome of a check. It returns ErrFailed if that is bad, for what follows makes no sense
// without it; or ctx's error, because a check that was interrupted has no outcome.
func (s *show) check(ctx context.Context, name string, err error, format string, args ...any) error {
	if err != nil && ctx.Err() != nil {
		s.screen.clear()
		return ctx.Err()
	}
	c := Check{Name: name, OK: err == nil, Detail: fmt.Sprintf(format, args...)}
	if err != nil {
		c.Detail = err.Error()
	}
	s.result.Checks = append(s.result.Checks, c)
	s.screen.check(c)
	if err != nil {
		return ErrFailed
	}
	return nil
}

// withWorld makes the gateway, the network, the sites and the client, calls do, and takes all away again.
func (s *show) withWorld(ctx context.Context, dir string, do func(context.Context) error) error {
	s.screen.printf("Godwit on this machine: no root, nothing leaves it, nothing stays.\n%s\n", picture)
	began := time.Now()
	var err error
	if s.net, err = newNetwork(); err != nil {
		return err
	}
	defer s.net.end()
	state := filepath.Join(dir, "gateway")
	gw, _, err := gatewaydir.Init(ctx, state, []string{s.net.l.Addr().String()}, s.cfg.Logger)
	if err != nil {
		return fmt.Errorf("making the gateway: %w", err)
	}
	defer gw.Close()
	gw.Settings.Listen = []string{"127.0.0.1:0"}
	gw.Settings.Egress.Allow = []string{"127.0.0.0/8", "::1/128"}
	g, err := gw.Service(s.cfg.Logger)
	if err != nil {
		return fmt.Errorf("making the gateway: %w", err)
	}
	defer g.Close()
	s.gateway, s.net.to = g, g.Gateway.Addrs()[0].String()
	host := "127.0.0.1"
	if f := g.Egress.Families(); f.Has(flow.IPv6) && !f.Has(flow.IPv4) {
		host = "::1" // the gateway of a machine without IPv4 offers none
	}
	if s.sites, err = newSites(host, s.cfg.Size, s.cfg.Lasting); err != nil {
		return err
	}
	k, err := gw.Control.KeyByName(ctx, gatewaydir.FirstKey)
	if err == nil {
		s.key, err = gw.AccessKey(k)
	}
	if err != nil {
		return fmt.Errorf("making the access key: %w", err)
	}
	s.check(ctx, "gateway", nil, "made in %s, with keys and a database of its own", brief(time.Since(began)))
	s.check(ctx, "access key", nil, "%s", strings.TrimPrefix(s.key.String(), "access key "))
	s.screen.more("what a person pastes: where the gateway is, which TLS key it must show, what opens its door")
	return s.inside(ctx, filepath.Join(dir, "client"), do)
}

// inside runs the world, and do in it.
func (s *show) inside(ctx context.Context, state string, do func(context.Context) error) (err error) {
	if s.client, err = client.New(client.Config{Key: s.key, StateDir: state, Logger: s.cfg.Logger,
		Transports: []string{"https"}, // what the network here can cut
		Events:     s.note}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("the client's proxy: %w", err)
	}
	s.proxy = l.Addr().String()
	tr := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "socks5", Host: s.proxy}),
		TLSClientConfig: &tls.Config{RootCAs: s.sites.roots},
	}
	s.visitor = &http.Client{Transport: tr}
	// The client ends first, so that it can tell the gateway.
	outer, ctxOuter := errgroup.WithContext(context.WithoutCancel(ctx))
	ctxOuter, endOuter := context.WithCancel(ctxOuter)
	outer.Go(func() error { return s.gateway.Run(ctxOuter) })
	outer.Go(func() error { return s.net.run(ctxOuter) })
	outer.Go(func() error { return s.sites.run(ctxOuter) })
	inner, ctxInner := errgroup.WithContext(ctx)
	ctxInner, endInner := context.WithCancel(ctxInner)
	inner.Go(func() error { return s.client.Run(ctxInner) })
	inner.Go(func() error {
		if err := s.client.ServeProxy(ctxInner, l); ctxInner.Err() == nil {
			return err
		}
		return nil
	})
	inner.Go(func() error {
		defer endInner()
		return do(ctxInner)
	})
	err = inner.Wait()
	endInner()
	tr.CloseIdleConnections()
	endOuter()
	return errors.Join(err, outer.Wait())
}

// note keeps what happens to links.
func (s *show) note(e client.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// linkOf is the link that something of these kinds happened to since then; 0 if nothing did.
func (s *show) linkOf(since time.Time, kinds ...client.EventKind) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		for _, k := range kinds {
			if e.Kind == k && e.Time.After(since) {
				return e.Link
			}
		}
	}
	return 0
}

// checks does what the demo is for.
func (s *show) checks(ctx context.Context) error {
	began := time.Now()
	ready, cancel := context.WithTimeout(ctx, patience)
	err := s.client.Ready(ready)
	cancel()
	if err := s.check(ctx, "client", err, "connected after %s: TLS 1.3, the gateway's key pinned, the device enrolled",
		brief(time.Since(began))); err != nil {
		return err
	}
	for _, site := range []struct{ name, scheme, addr string }{
		{"http page", "http", s.sites.plain.Addr().String()}, {"https page", "https", s.sites.secure.Addr().String()},
	} {
		began := time.Now()
		err := s.visit(ctx, site.scheme+"://"+site.addr+"/")
		if err := s.check(ctx, site.name, err, "came through the tunnel in %s", brief(time.Since(began))); err != nil {
			return err
		}
	}
	if err := s.cutDownload(ctx); err != nil {
		return err
	}
	met, err := s.stranger(ctx)
	if err := s.check(ctx, "stranger", err, "opened the gateway's address like anybody, and met a website: %s",
		met); err != nil {
		return err
	}
	s.result.OK = true
	return nil
}

// visit fetches the page.
func (s *show) visit(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	before := s.client.Status().Opened
	resp, err := s.visitor.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case string(text) != page:
		return fmt.Errorf("another page came: status %s, %d bytes", resp.Status, len(text))
	case s.client.Status().Opened == before:
		return errors.New("the page came by another way than the tunnel")
	}
	return nil
}

// stranger does what anybody can who finds the gateway's address, and says what there was.
func (s *show) stranger(ctx context.Context) (met string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Whoever does not have the access key cannot know what the certificate should be.
	browser := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, "GET", "https://"+s.net.l.Addr().String()+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := browser.Do(r)
	if err != nil {
		return "", fmt.Errorf("a stranger met no website: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if strings.Contains(strings.ToLower(string(text)), "godwit") {
		return "", errors.New("the website says what it hides")
	}
	what := resp.Status
	if m := title.FindSubmatch(text); m != nil {
		what = fmt.Sprintf("%q", html.UnescapeString(string(m[1])))
	}
	return fmt.Sprintf("%s, over %s", what, resp.Proto), nil
}

var title = regexp.MustCompile(`(?i)<title>([^<]*)</title>`)

// hold leaves all of it to be tried.
func (s *show) hold(ctx context.Context) {
	s.screen.printf("\nIt still runs, until Ctrl-C. In another terminal:\n\n"+
		"  curl --proxy socks5h://%[1]s http://%[2]s/\n  curl --proxy http://%[1]s http://%[2]s%[3]s | sha256sum\n\n",
		s.proxy, s.sites.plain.Addr(), downloadPath)
	<-ctx.Done()
}

// sums fills in the hashes.
func (d *Download) sums(sent, got [32]byte) {
	d.Expect, d.Got = hex.EncodeToString(sent[:]), hex.EncodeToString(got[:])
}

// brief is a duration with as many digits as one cares for.
func brief(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", ms/1000)
}
