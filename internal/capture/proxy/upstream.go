package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// bodyGrace is how long a request body may go on when its receiver has gone.
const bodyGrace = 500 * time.Millisecond

// ownTransport sends each request by its connection's own transport. Connections to sites are kept for later requests
// of the same application's connection, and never shared between two: some sites log in the connection rather than the
// request (NTLM), and an application that closes should leave nothing open.
type ownTransport struct{}

func (ownTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := r.Context().Value(connKey{}).(*conn)
	if c.transport == nil {
		c.transport = &http.Transport{
			DialContext:            c.dial,
			DisableCompression:     true,
			MaxIdleConns:           4, // requests come one after the other; a page has a few sites
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxResponseHeader,
			ExpectContinueTimeout:  3 * time.Second, // sites that ignore it answer 417 or nothing; two slow round trips
		}
	}
	// Tell the stream that carries the request whose body it carries, so that no other stream's end counts.
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		got.Conn.(*upstream).body.Store(c.upload)
	}}
	return c.transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// dial opens a stream for c.transport. It lasts as long as the application's connection, whatever becomes of the
// request that it was first for.
func (c *conn) dial(_ context.Context, _, addr string) (net.Conn, error) {
	target, err := flow.ParseTarget(addr)
	if err != nil {
		return nil, err
	}
	if !c.sv.life.enter() {
		return nil, net.ErrClosed
	}
	st, _, err := c.sv.open(c.ctx, target)
	if err != nil {
		c.sv.life.leave()
		return nil, err
	}
	return &upstream{Stream: st, c: c}, nil
}

// upstream is a stream that carries plain requests. Serve waits until it is closed.
type upstream struct {
	flow.Stream
	c    *conn
	body atomic.Pointer[upload] // of the request it now carries, if that has one
	once sync.Once              // for what Close does but once
	over atomic.Bool            // closed here, so that a failing Read says nothing of the site
}

func (u *upstream) Read(p []byte) (int, error) {
	n, err := u.Stream.Read(p)
	if err != nil && !u.over.Load() {
		if body := u.body.Load(); body != nil {
			body.abandon(u.c, err)
		}
	}
	return n, err
}

func (u *upstream) Close() error {
	u.over.Store(true)
	err := u.Stream.Close()
	u.once.Do(u.c.sv.life.leave)
	return err
}

// upload is a request's body on its way. http.Transport does not return from a failed request before its Read of the
// body has, and that may wait for an application which itself waits for our answer; so whoever learns first that the
// site has gone gives the body only a moment more.
type upload struct {
	io.ReadCloser // the request's body

	mu   sync.Mutex
	over bool  // Read has failed or reached the end, or nobody reads any more
	site error // why the site's side ended, if it was the first
	own  error // why the application's side ended before its end, if it was the first
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.over = true
		if err != io.EOF && u.own == nil && u.site == nil {
			u.own = err
		}
	}
	return n, err
}

// abandon notes that the site has gone.
func (u *upload) abandon(c *conn, why error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.own == nil && u.site == nil {
		u.site = why
	}
	if !u.over {
		c.tcp.SetReadDeadline(time.Now().Add(bodyGrace))
	}
}

// finish notes that the request has been answered.
func (u *upload) finish() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
}

// failure returns why the side that ended first did; the other is nil.
func (u *upload) failure() (site, own error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.site, u.own
}
