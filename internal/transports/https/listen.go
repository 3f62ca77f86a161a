package https

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/tickets"
)

// The website's patience, as that of many a server on the internet. Handshakes have headerTimeout, too.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
)

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// GetCertificate is as in tls.Config. All certificates have the one key that access keys pin.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Challenge, if not nil, returns the configuration for a handshake in which a CA validates a name, or nil.
	Challenge func(*tls.ClientHelloInfo) *tls.Config
	// Tickets is what the keys of session tickets follow from, so that they stay good when another process takes over;
	// zero leaves them to crypto/tls, which makes some up.
	Tickets [sha256.Size]byte
	// Key is that key's hash (transport.KeyHash).
	Key  [sha256.Size]byte
	Door transport.Door
	// Website answers strangers.
	Website    http.Handler
	Congestion string // as in Dialer
}

// Listener is a website that accepts links. It implements transport.Listener.
type Listener struct {
	tcp    *visitors
	cfg    ListenConfig
	server *http.Server
	shapes *shapes
	cookie int // how long the value of the cookie is that hides a knock

	conns  chan transport.Conn
	closed chan struct{}
	once   sync.Once
	served chan struct{}
}

// Listen makes a Listener of tcp, which it owns from then on.
func Listen(tcp net.Listener, cfg ListenConfig) *Listener {
	l := &Listener{
		cfg: cfg, conns: make(chan transport.Conn), closed: make(chan struct{}), served: make(chan struct{}),
	}
	l.tcp = newVisitors(tcp, cfg.Congestion, cfg.Key)
	l.server = NewServer(cfg.Website)
	l.server.TLSNextProto["h2"] = l.serveHTTP2
	var name string
	name, l.cookie = decoy.CookieFor(cfg.Key)
	l.shapes = &shapes{website: cfg.Website, cookie: name + "=" + strings.Repeat("x", l.cookie)}
	l.shapes.lookFirst()
	config := &tls.Config{GetCertificate: cfg.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
	keys := &tickets.Keys{Secret: cfg.Tickets, Config: config}
	keys.Turn(time.Now())
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		keys.Turn(time.Now())
		if cfg.Challenge == nil {
			return nil, nil
		}
		return cfg.Challenge(h), nil
	}
	go func() {
		defer close(l.served)
		l.server.Serve(tls.NewListener(l.tcp, config))
	}()
	return l
}

// NewServer is the website's HTTP server, without a door: Go's own, with x/net's HTTP/2, as Caddy has it. It must be
// given connections of TLS (tls.NewListener) whose NextProtos are h2 and http/1.1, or plain ones.
func NewServer(website http.Handler) *http.Server {
	return &http.Server{
		Handler: website, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: log.New(io.Discard, "", 0), // it would name visitors' addresses
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateHijacked { // by a pipe, for a link
				leave(c)
			}
		},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			"h2": func(s *http.Server, c *tls.Conn, h http.Handler) { serveHTTP2(s, c, h) },
		},
	}
}

// serveHTTP2 does with a connection what http2.ConfigureServer would have the server do.
func serveHTTP2(s *http.Server, c net.Conn, h http.Handler) {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	//lint:ignore SA1019 net/http's own HTTP/2 server cannot be given a connection that is watched
	new(http2.Server).ServeConn(c, &http2.ServeConnOpts{Context: ctx, Handler: h, BaseConfig: s})
}

// serveHTTP2 serves a connection, and hands it on if its first request opens the door.
func (l *Listener) serveHTTP2(s *http.Server, c *tls.Conn, h http.Handler) {
	state := c.ConnectionState()
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		serveHTTP2(s, c, h) // no link is made of such
		return
	}
	link := &conn{Conn: c, export: state.ExportKeyingMaterial, serverKey: l.cfg.Key}
	t := newTap(c, l.cookie, func(knock []byte) bool { return l.cfg.Door.Opens(link, knock) })
	serveHTTP2(s, t, h)
	if t.knock == nil {
		return
	}
	sock := c.NetConn().(*visitor)
	link.sock, link.knock, link.unread = sock.Conn, t.knock, t.rest
	link.closed, link.hosted = make(chan struct{}), make(chan func(), 1) // one, so that Host does not wait
	if !l.tcp.leave(sock) {
		return
	}
	c.SetDeadline(time.Time{})
	if tcp, ok := sock.Conn.Conn.(*net.TCPConn); ok {
		tcp.SetKeepAlive(false) // the session probes its links itself, and not by the clock
	}
	sock.Link()
	link.reply = &reply{shape: l.shapes.pick(), filler: l.cfg.Door}
	select {
	case l.conns <- hostedConn{link}:
		link.serve() // when this returns the HTTP server closes the connection
	case <-l.closed:
		link.Close()
	}
}

// Accept implements transport.Listener.
func (l *Listener) Accept() (transport.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements transport.Listener.
func (l *Listener) Addr() net.Addr { return l.tcp.Addr() }

// Drain implements transport.Drainer.
func (l *Listener) Drain(ctx context.Context) {
	l.tcp.Close()
	<-l.served // from here on nobody joins
	select {
	case <-l.tcp.crowd.Gone():
	case <-ctx.Done():
	case <-l.closed:
	}
}

// Close implements transport.Listener. Strangers' connections end with it.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		if err = l.tcp.end(); errors.Is(err, net.ErrClosed) {
			err = nil // it was drained
		}
	})
	<-l.served
	return err
}
