package pipe

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// conn is what a link gets. It implements transport.Conn, BatchWriter, Tuned and Scarce.
type conn struct {
	*tls.Conn
	under     *tcp.Conn
	name      string // of the transport
	serverKey [sha256.Size]byte
	knock     []byte
	end       end // at the client

	mu     sync.Mutex // one batch at a time
	heard  bool       // the reader's: the door has opened, for something came
	once   sync.Once
	closed chan struct{}
	hosted chan func() // at the gateway
}

// direct is a conn on a descriptor. It implements transport.NonBlocking, too.
type direct struct{ *conn }

// hosted and hostedDirect are those at the gateway, where somebody waits until the connection ends. They implement
// transport.Hosted.
type (
	hosted       struct{ *conn }
	hostedDirect struct{ direct }
)

var (
	_ transport.BatchWriter = (*conn)(nil)
	_ transport.Tuned       = (*conn)(nil)
	_ transport.Scarce      = (*conn)(nil)
	_ transport.NonBlocking = hostedDirect{}
	_ transport.Hosted      = hostedDirect{}
	_ transport.Hosted      = hosted{}
)

// end notices the end of what is below, which crypto/tls takes for TLS's farewell, and which anyone on the way can make.
type end struct {
	net.Conn
	seen bool
}

// Read implements net.Conn.
func (e *end) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	e.seen = e.seen || err != nil
	return n, err
}

// Export implements transport.Secured.
func (c *conn) Export(label string, context []byte, n int) ([]byte, error) {
	state := c.ConnectionState()
	return state.ExportKeyingMaterial(label, context, n)
}

// ServerKey implements transport.Secured.
func (c *conn) ServerKey() [sha256.Size]byte { return c.serverKey }

// Scarce implements transport.Scarce.
func (c *conn) Scarce() bool {
	s, ok := c.under.Conn.(transport.Scarce)
	return ok && s.Scarce()
}

// Knock implements transport.Conn.
func (c *conn) Knock() []byte { return c.knock }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case n > 0:
		c.heard = true
	case err == nil:
	case c.isClosed():
		err = net.ErrClosed
	case err == io.EOF && !c.heard && !c.end.seen: // TLS's farewell, and nothing before it
		err = &transport.DialError{Transport: c.name, Stage: transport.StageDoor, Err: transport.ErrDoor}
	}
	return n, err
}

// WriteBatch implements transport.BatchWriter: records are sealed one after another and leave in one write.
func (c *conn) WriteBatch(bufs [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under.Hold()
	var err error
	for _, b := range bufs {
		if _, err = c.Conn.Write(b); err != nil {
			break
		}
	}
	if rerr := c.under.Release(); err == nil {
		err = rerr
	}
	if err != nil && c.isClosed() {
		err = net.ErrClosed
	}
	return err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.WriteBatch([][]byte{b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Measure implements transport.Tuned.
func (c *conn) Measure() transport.Path { return c.under.Measure() }

// SetUnsentLimit implements transport.Tuned.
func (c *conn) SetUnsentLimit(bytes int) { c.under.SetUnsentLimit(bytes) }

// Congestion implements transport.Tuned.
func (c *conn) Congestion() string { return c.under.Congestion() }

// OnDrained implements transport.NonBlocking.
func (c direct) OnDrained(f func()) { c.under.OnDrained(f) }

// Backlog implements transport.NonBlocking.
func (c direct) Backlog() bool { return c.under.Backlog() }

// Host implements transport.Hosted.
func (c hosted) Host(f func()) { c.hosted <- f }

// Host implements transport.Hosted.
func (c hostedDirect) Host(f func()) { c.hosted <- f }

// serve runs what is hosted and waits for the end of the connection.
func (c *conn) serve() {
	select {
	case f := <-c.hosted:
		f()
	case <-c.closed:
	}
	<-c.closed
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Close closes what is below, without TLS's farewell: that would have to wait for a network that may be gone, and what it
// tells, that all bytes came, the session knows better.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		close(c.closed)
		if err = c.under.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // whoever is below was first
		}
	})
	return err
}
