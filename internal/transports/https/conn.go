package https

import (
	"crypto/sha256"
	"crypto/tls"
	"net"
	"sync"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// conn is one TLS connection of ours. It implements transport.Conn, BatchWriter, NonBlocking and Tuned.
type conn struct {
	net.Conn  // TLS
	sock      *tcp.Conn
	export    func(label string, context []byte, n int) ([]byte, error)
	serverKey [sha256.Size]byte
	knock     []byte
	closed    chan struct{}
	hosted    chan func() // at the gateway: for the goroutine that the HTTP server has for the connection
	once      sync.Once

	// How it begins. The reader's:
	entry  *entry // at the client, until it is through the door
	unread []byte // at the gateway: what came with the request

	mu    sync.Mutex // one batch at a time
	reply *reply     // at the gateway, until the first batch
}

var (
	_ transport.Conn        = (*conn)(nil)
	_ transport.BatchWriter = (*conn)(nil)
	_ transport.NonBlocking = (*conn)(nil)
	_ transport.Tuned       = (*conn)(nil)
)

// Export implements transport.Conn.
func (c *conn) Export(label string, context []byte, n int) ([]byte, error) {
	return c.export(label, context, n)
}

func (c *conn) marker() ([]byte, error) { return c.export(markerLabel, nil, markerLen) }

// ServerKey implements transport.Conn.
func (c *conn) ServerKey() [sha256.Size]byte { return c.serverKey }

// Knock implements transport.Conn.
func (c *conn) Knock() []byte { return c.knock }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if c.entry != nil {
		if err := c.pass(); err != nil {
			return 0, err
		}
		c.entry = nil
	}
	if len(c.unread) > 0 {
		n := copy(b, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// WriteBatch implements transport.BatchWriter: records are sealed one after another and leave in one system call.
func (c *conn) WriteBatch(bufs [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reply != nil {
		return c.begin(bufs)
	}
	c.sock.Hold()
	var err error
	for _, b := range bufs {
		if _, err = c.Conn.Write(b); err != nil {
			break
		}
	}
	if ferr := c.sock.Release(); err == nil {
		err = ferr
	}
	return err
}

// begin writes what a link of the gateway begins with. Each write is a segment of its own, as the website's are.
func (c *conn) begin(bufs [][]byte) error {
	marker, err := c.marker()
	if err != nil {
		return err
	}
	r := c.reply
	c.reply = nil
	for _, b := range r.writes(marker, bufs) {
		if _, err := c.Conn.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.WriteBatch([][]byte{b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// serve runs what is hosted and waits for the end of the connection.
func (c *conn) serve() {
	select {
	case f := <-c.hosted:
		f()
	case <-c.closed:
	}
	<-c.closed
}

// hostedConn is a conn at the gateway. It implements transport.Hosted.
type hostedConn struct{ *conn }

// Host implements transport.Hosted.
func (c hostedConn) Host(f func()) { c.hosted <- f }

// OnDrained implements transport.NonBlocking.
func (c *conn) OnDrained(f func()) { c.sock.OnDrained(f) }

// Backlog implements transport.NonBlocking.
func (c *conn) Backlog() bool { return c.sock.Backlog() }

// Measure implements transport.Tuned.
func (c *conn) Measure() transport.Path { return c.sock.Measure() }

// SetUnsentLimit implements transport.Tuned.
func (c *conn) SetUnsentLimit(bytes int) { c.sock.SetUnsentLimit(bytes) }

// Congestion implements transport.Tuned.
func (c *conn) Congestion() string { return c.sock.Congestion() }

// Close closes the connection. A gateway says TLS's farewell first, as the website's server does, if that need not wait
// for a network that may be gone; a client, like the browser, does not. What it would tell, that all bytes came, the
// session knows better.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		if t, ok := c.Conn.(*tls.Conn); ok && c.sock.NeverWaits() {
			t.CloseWrite()
		}
		err = c.sock.Close()
		close(c.closed)
	})
	return err
}
