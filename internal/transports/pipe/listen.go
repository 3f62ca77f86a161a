package pipe

import (
	"container/list"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
	"github.com/godwit-vpn/godwit/internal/transports/tickets"
)

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// Key is the gateway's TLS key, which access keys pin.
	Key  crypto.Signer
	Door transport.Door
	// Tickets is what the keys of session tickets follow from; zero leaves them to crypto/tls.
	Tickets [sha256.Size]byte
	// Addr is what the listener's Addr says; it may be nil.
	Addr net.Addr
}

// mostStrangers is how many may be on their way to the door: each has TLS's buffers, some 20 KiB. When it is full the one
// goes that came first.
const mostStrangers = 256

// Listener takes links from the connections it is fed with. It implements transport.Listener and transport.Drainer.
type Listener struct {
	cfg    ListenConfig
	tls    *tls.Config
	keys   *tickets.Keys
	key    [sha256.Size]byte
	conns  chan transport.Conn
	closed chan struct{}
	once   sync.Once

	mu        sync.Mutex
	strangers list.List // of net.Conn
	drained   bool
	empty     chan struct{} // closed when no stranger is left, if somebody waits for that
}

// Listen makes a Listener.
func Listen(cfg ListenConfig) (*Listener, error) {
	cert, key, err := certificate(cfg.Key)
	if err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, key: key, conns: make(chan transport.Conn), closed: make(chan struct{})}
	l.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, CurvePreferences: keyExchange}
	l.keys = &tickets.Keys{Config: l.tls}
	if cfg.Tickets != [sha256.Size]byte{} { // a ticket is good for a pipe alone, and for this key
		l.keys.Secret = sha256.Sum256(append(append([]byte("godwit pipe tickets v1\x00"), cfg.Tickets[:]...), key[:]...))
	}
	l.keys.Turn(time.Now())
	return l, nil
}

// Serve takes what comes on under, which it owns: a link, if it is one, or it is cut. It returns when the connection has
// ended; until then its goroutine serves the link.
func (l *Listener) Serve(under net.Conn) {
	place := l.enter(under)
	if place == nil {
		under.Close()
		return
	}
	c := &conn{under: &tcp.Conn{Conn: under}, serverKey: l.key, closed: make(chan struct{}), hosted: make(chan func(), 1), heard: true}
	opened := l.admit(c)
	if !l.leave(place) || !opened {
		under.Close()
		return
	}
	under.SetDeadline(time.Time{})
	c.under.Link()
	var link transport.Conn = hosted{c}
	if c.under.NonBlocking() {
		link = hostedDirect{direct{c}}
	}
	select {
	case l.conns <- link:
		c.serve()
	case <-l.closed:
		c.Close()
	}
}

// admit does the handshake and hears the knock.
func (l *Listener) admit(c *conn) bool {
	c.under.SetDeadline(time.Now().Add(transport.HandshakeTimeout))
	ctx, cancel := context.WithTimeout(context.Background(), transport.HandshakeTimeout)
	defer cancel()
	l.keys.Turn(time.Now())
	quiet := &quiet{Conn: c.under}
	c.Conn = tls.Server(quiet, l.tls)
	if c.Conn.HandshakeContext(ctx) != nil {
		return false
	}
	quiet.over = true
	var err error
	if c.knock, err = readKnock(c.Conn); err != nil {
		return false
	}
	if l.cfg.Door.Opens(c, c.knock) {
		return true
	}
	// A client that is told so knows that it was the door. What it has sent already is read, or TCP would take the farewell
	// back.
	c.Conn.CloseWrite()
	c.under.SetDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, c.under, lingerBytes)
	return false
}

// How long, and for how many bytes, one lingers whose knock was wrong.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 10
)

// quiet keeps TLS from telling whoever speaks something else that it is TLS.
type quiet struct {
	net.Conn
	over bool
}

// Write implements net.Conn.
func (q *quiet) Write(b []byte) (int, error) {
	const alert = 21 // as content type in clear: nothing of ours was said yet (RFC 8446 §5.1)
	if !q.over && len(b) > 0 && b[0] == alert {
		return len(b), nil
	}
	return q.Conn.Write(b)
}

// enter makes room for a stranger; nil says that nobody comes any more.
func (l *Listener) enter(under net.Conn) *list.Element {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drained {
		return nil
	}
	if l.strangers.Len() >= mostStrangers {
		oldest := l.strangers.Front()
		oldest.Value.(net.Conn).Close()
		oldest.Value = nil
		l.strangers.Remove(oldest)
	}
	return l.strangers.PushBack(under)
}

// leave takes one out, and reports whether it was there.
func (l *Listener) leave(place *list.Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if place.Value == nil {
		return false
	}
	l.strangers.Remove(place)
	if l.empty != nil && l.strangers.Len() == 0 {
		close(l.empty)
		l.empty = nil
	}
	return true
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
func (l *Listener) Addr() net.Addr { return l.cfg.Addr }

// Drain implements transport.Drainer: nobody new is taken. Whoever feeds it closes the socket.
func (l *Listener) Drain(ctx context.Context) {
	l.mu.Lock()
	l.drained = true
	empty := make(chan struct{})
	if l.strangers.Len() == 0 {
		close(empty)
	} else {
		l.empty = empty
	}
	l.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	case <-l.closed:
	}
}

// Close implements transport.Listener. Strangers' connections end with it; links do not.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drained = true
		for e := l.strangers.Front(); e != nil; e = e.Next() {
			e.Value.(net.Conn).Close()
		}
	})
	return nil
}
