package pageload

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// visit is one page load, of one browser on one network, on one day.
type visit struct {
	site    *site
	day     int
	number  int
	browser browser
	path    path          // to where the gateway is
	far     time.Duration // how much further from there the sites are, one way
}

func newVisit(s *site, day, number int) *visit {
	r := rand.New(rand.NewPCG(uint64(number), 3+uint64(day)))
	v := &visit{site: s, day: day, number: number}
	v.path = path{delay: time.Duration(8+r.IntN(80)) * time.Millisecond, rate: 2e6 + 8e6*r.Float64()}
	switch n := r.IntN(20); {
	case n < 14:
	case n < 17:
		v.browser = firefox
	default:
		v.browser = curl
	}
	return v
}

// seen is what a watcher has of a visit.
type seen struct {
	taps  []*tap
	fine  bool
	took  time.Duration
	bytes int // on all connections, both ways, after TCP
}

func (v *visit) random(what uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(v.number)<<8+what, uint64(v.day)))
}

// run loads the page; it must run in a bubble of synctest.
func (v *visit) run(way func(v *visit, s *seen) (dial dialer, done func())) (s seen) {
	dial, done := way(v, &s)
	began := time.Now()
	r := v.random(1)
	s.fine = v.browser.load(v.site, v.site.visit(r, v.day), r, dial)
	s.took = time.Since(began)
	done()
	for _, t := range s.taps {
		s.bytes += t.up + t.down
	}
	return s
}

// backdrop collects what runs beside the browser.
type backdrop struct {
	mu sync.Mutex
	wg sync.WaitGroup
	n  uint64
}

// direct connects to the sites themselves.
func direct(v *visit, s *seen) (dialer, func()) {
	var b backdrop
	return func(h *host) (net.Conn, error) {
		t := new(tap)
		b.mu.Lock()
		s.taps = append(s.taps, t)
		b.n++
		r := v.random(b.n)
		b.mu.Unlock()
		p := v.path
		p.delay += h.delay
		c, srv := connect(p, t)
		b.wg.Go(func() { h.serve(srv, r, v.browser == curl) })
		return c, nil
	}, b.wg.Wait
}

// dialSite is how a gateway connects to a site.
func (b *backdrop) dialSite(v *visit, h *host) net.Conn {
	b.mu.Lock()
	b.n++
	r := v.random(b.n)
	b.mu.Unlock()
	c, srv := connect(path{delay: h.delay + v.far, rate: 50e6}, nil)
	b.wg.Go(func() { h.serve(srv, r, v.browser == curl) })
	return c
}

var gatewayTLS = sync.OnceValue(func() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{chain(1100, 900)}, MinVersion: tls.VersionTLS13}
})

// outer makes the outer TLS, as Chromium to a gateway.
func outer(c, srv net.Conn) (client *utls.UConn, server *tls.Conn, err error) {
	server = tls.Server(srv, gatewayTLS())
	if client, err = chrome.Client(c, &utls.Config{ServerName: "gateway.example", InsecureSkipVerify: true}); err != nil {
		return nil, nil, err
	}
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err = client.Handshake(); err == nil {
		err = <-shaken
	}
	return client, server, err
}

// plainly puts each connection into a TLS connection of its own, behind a header as Trojan's.
func plainly(v *visit, s *seen) (dialer, func()) {
	var b backdrop
	return func(h *host) (net.Conn, error) {
		t := new(tap)
		b.mu.Lock()
		s.taps = append(s.taps, t)
		b.mu.Unlock()
		c, srv := connect(v.path, t)
		near, far, err := outer(c, srv)
		if err != nil {
			return nil, err
		}
		const header = 56 + 2 + 1 + 1 + 1 + 12 + 2 + 2
		b.wg.Go(func() {
			defer far.Close()
			if _, err := io.CopyN(io.Discard, far, header); err != nil {
				return
			}
			up := b.dialSite(v, h)
			defer up.Close()
			b.wg.Go(func() { io.Copy(up, far); up.(*end).CloseWrite() })
			io.Copy(far, up)
		})
		return &headed{Conn: near, header: make([]byte, header)}, nil
	}, b.wg.Wait
}

// headed writes a header together with the first bytes.
type headed struct {
	net.Conn
	header []byte
}

func (c *headed) Write(p []byte) (int, error) {
	if c.header == nil {
		return c.Conn.Write(p)
	}
	b := append(c.header, p...)
	c.header = nil
	_, err := c.Conn.Write(b)
	return len(p), err
}

// godwit puts all connections into a session with two links, as a client has by default.
func godwit(level shape.Level) func(v *visit, s *seen) (dialer, func()) {
	return func(v *visit, s *seen) (dialer, func()) {
		var b backdrop
		r := v.random(1 << 20)
		pool := session.NewPool(256 << 20)
		id := wire.SessionID{1}
		hosts := map[string]*host{}
		client := session.New(session.Config{Role: session.Client, ID: id, Pool: pool, Shape: level})
		gateway := session.New(session.Config{Role: session.Gateway, ID: id, Pool: pool, Shape: level,
			Accept: func(st *session.Stream, t flow.Target) {
				b.mu.Lock()
				h := hosts[t.Host]
				b.mu.Unlock()
				c := b.dialSite(v, h)
				st.Answer(nil)
				st.Join(c)
			}})
		for range links {
			t := new(tap)
			s.taps = append(s.taps, t)
			attach(v.path, t, client, gateway, r)
			time.Sleep(transport.DialSpacing)
		}
		if r.IntN(2) == 0 { // it was there before it was needed
			time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
		}
		dial := func(h *host) (net.Conn, error) {
			b.mu.Lock()
			n := len(hosts) // of several lengths, and drawn by nobody: hosts are dialled at once
			name := "www-" + strings.Repeat("x", n*7%20) + ".example" + string(rune('a'+n))
			hosts[name] = h
			b.mu.Unlock()
			st, err := client.Open(context.Background(), flow.Target{Host: name, Port: 443}, true)
			time.Sleep(200 * time.Microsecond) // the proxy answers the browser
			return st, err
		}
		return dial, func() {
			client.Close(flow.CodeLocalShutdown)
			<-gateway.Done()
			b.wg.Wait()
		}
	}
}

// links is how many a session has.
const links = 2

// attach adds a link, which begins as a visit to the website does; the lengths are those of TestCamouflage.
func attach(p path, t *tap, client, gateway *session.Session, r *rand.Rand) {
	c, srv := connect(p, t)
	near, far, err := outer(c, srv)
	if err != nil {
		panic(err)
	}
	rtt := 2 * p.delay
	opening := chrome.Opening("gateway.example", string(make([]byte, 430)))
	length := 0
	for _, rec := range opening {
		near.Write(rec)
		length += len(rec)
	}
	attached := make(chan struct{})
	go func() {
		defer close(attached)
		far.Write(make([]byte, 45))
		io.CopyN(io.Discard, far, int64(length+chrome.SettingsAckLen))
		far.Write(wire.AppendPadding(nil, 92))
		far.Write(wire.AppendPadding(nil, 2066-r.IntN(800)))
		gateway.Attach(&linkConn{Conn: far, raw: srv}, session.LinkOptions{Transport: "sim", RTT: rtt, Confirmed: true})
	}()
	io.CopyN(io.Discard, near, 45)
	near.Write(make([]byte, chrome.SettingsAckLen))
	client.Attach(&linkConn{Conn: near, raw: c}, session.LinkOptions{Transport: "sim", RTT: rtt, Confirmed: true})
	<-attached
}

// linkConn is a link over simulated TCP, as the https transport's: a batch leaves in one go, and nobody waits.
type linkConn struct {
	net.Conn // TLS
	raw      *end
}

func (c *linkConn) OnDrained(f func()) { c.raw.drained = f }

func (c *linkConn) Backlog() bool {
	c.raw.mu.Lock()
	defer c.raw.mu.Unlock()
	return c.raw.full
}

func (c *linkConn) WriteBatch(bufs [][]byte) error {
	c.raw.mu.Lock()
	c.raw.holding = true
	c.raw.mu.Unlock()
	var err error
	for _, b := range bufs {
		if _, err = c.Conn.Write(b); err != nil {
			break
		}
	}
	c.raw.mu.Lock()
	held := c.raw.held
	c.raw.holding, c.raw.held = false, nil
	c.raw.mu.Unlock()
	return errors.Join(err, c.raw.send(held))
}

func (c *linkConn) Write(p []byte) (int, error) { return len(p), c.WriteBatch([][]byte{p}) }
func (c *linkConn) Close() error                { return c.raw.Close() }
func (c *linkConn) ServerKey() [32]byte         { return [32]byte{} }
func (c *linkConn) Knock() []byte               { return nil }
func (c *linkConn) Export(string, []byte, int) ([]byte, error) {
	return nil, errors.New("not asked for")
}
