package https

import (
	"crypto/sha256"
	"crypto/tls"
	"net"
	"sync"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// conn is one TLS connection of ours. It implements transport.Conn, BatchWriter, NonBlocking and Tuned.
type conn struct {
	*tls.Conn
	pipe      *pipe
	startup   startup
	serverKey [sha256.Size]byte
	once      sync.Once
}

var (
	_ transport.Conn        = (*conn)(nil)
	_ transport.BatchWriter = (*conn)(nil)
	_ transport.NonBlocking = (*conn)(nil)
	_ transport.Tuned       = (*conn)(nil)
)

// Export implements transport.Conn.
func (c *conn) Export(label string, context []byte, n int) ([]byte, error) {
	state := c.ConnectionState()
	return state.ExportKeyingMaterial(label, context, n)
}

// ServerKey implements transport.Conn.
func (c *conn) ServerKey() [sha256.Size]byte { return c.serverKey }

// WriteBatch implements transport.BatchWriter: records are sealed one after another and leave in one system call.
func (c *conn) WriteBatch(bufs [][]byte) error {
	c.pipe.hold()
	var err error
	for _, b := range bufs {
		if _, err = c.Conn.Write(b); err != nil {
			break
		}
	}
	if ferr := c.pipe.release(); err == nil {
		err = ferr
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

// OnDrained implements transport.NonBlocking.
func (c *conn) OnDrained(f func()) { c.pipe.onDrained(f) }

// Backlog implements transport.NonBlocking.
func (c *conn) Backlog() bool { return c.pipe.backlog() }

// Measure implements transport.Tuned.
func (c *conn) Measure() transport.Path {
	c.startup.look(c.pipe.Conn, c.pipe.wasFull())
	return path(c.pipe.Conn)
}

// SetUnsentLimit implements transport.Tuned.
func (c *conn) SetUnsentLimit(bytes int) { setUnsentLimit(c.pipe.Conn, bytes) }

// Congestion implements transport.Tuned.
func (c *conn) Congestion() string { return congestion(c.pipe.Conn) }

// Close closes the connection without TLS's farewell: writing that could wait for a network that is gone, and what it
// would tell, that all bytes came, the session knows better.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() { err = c.pipe.Close() })
	return err
}

// NetConn is not for callers of a link.
func (c *conn) NetConn() net.Conn { return c.pipe.Conn }
