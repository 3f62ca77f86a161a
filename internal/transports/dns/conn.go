package dns

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// conn is a net.Conn on an ARQ. Who carries its packets holds mu while it uses the ARQ, and calls wakeLocked after that.
type conn struct {
	local, remote net.Addr
	most          int    // how many unsent bytes Write takes
	kick          func() // tells who carries packets that there is something to say; called with mu held

	mu       sync.Mutex
	arq      *arq
	gone     error         // what Read says when all that came was read, and Write says at once
	closed   bool          // by Close
	done     chan struct{} // closed by Close
	readable chan struct{} // there may be something to read: room for one, that nobody looks twice
	writable chan struct{} // likewise

	readBy, writeBy deadline
}

func newConn(segment, room, most int, local, remote net.Addr) *conn {
	return &conn{
		local: local, remote: remote, most: most, arq: newARQ(segment, room), done: make(chan struct{}),
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
	}
}

// Scarce implements transport.Scarce.
func (c *conn) Scarce() bool { return true }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wakeLocked wakes who can go on.
func (c *conn) wakeLocked() {
	if len(c.arq.in) > 0 || c.gone != nil {
		signal(c.readable)
	}
	if len(c.arq.out) < c.most || c.gone != nil {
		signal(c.writable)
	}
}

// endLocked ends the connection from the other side.
func (c *conn) endLocked(err error) {
	if c.gone == nil {
		c.gone = err
	}
	c.wakeLocked()
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		c.mu.Lock()
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, net.ErrClosed
		case c.readBy.passed():
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			c.mu.Unlock()
			return 0, nil
		case len(c.arq.in) > 0:
			n := c.arq.read(b)
			if c.arq.reopened {
				c.kick()
			}
			c.wakeLocked()
			c.mu.Unlock()
			return n, nil
		case c.gone != nil:
			err := c.gone
			c.wakeLocked()
			c.mu.Unlock()
			return 0, err
		}
		c.mu.Unlock()
		select {
		case <-c.readable:
		case <-c.done:
		case <-c.readBy.wait():
		}
	}
}

// Write implements net.Conn. It returns when all but what waits for the next queries is on its way.
func (c *conn) Write(b []byte) (int, error) {
	total := 0
	for {
		c.mu.Lock()
		switch {
		case c.closed:
			c.mu.Unlock()
			return total, net.ErrClosed
		case c.gone != nil:
			c.mu.Unlock()
			return total, io.ErrClosedPipe
		case c.writeBy.passed():
			c.mu.Unlock()
			return total, os.ErrDeadlineExceeded
		}
		n := max(0, min(len(b), c.most-len(c.arq.out)))
		if n > 0 {
			c.arq.write(b[:n])
			c.kick()
		}
		c.wakeLocked()
		c.mu.Unlock()
		total += n
		if b = b[n:]; len(b) == 0 {
			return total, nil
		}
		select {
		case <-c.writable:
		case <-c.done:
		case <-c.writeBy.wait():
		}
	}
}

// Close implements net.Conn. What was written is still sent, for a while.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.done)
		c.kick()
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}

// Measure implements transport.Tuned, which the pipe's connection hands on.
func (c *conn) Measure() transport.Path {
	c.mu.Lock()
	defer c.mu.Unlock()
	return transport.Path{RTT: c.arq.trip, LeastRTT: c.arq.least, Sent: c.arq.left, Resent: c.arq.repeated}
}

// SetUnsentLimit implements transport.Tuned.
func (c *conn) SetUnsentLimit(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = min(max(bytes, leastUnsent), mostUnsent)
	c.wakeLocked()
}

// Congestion implements transport.Tuned. There is none: rate and window bound what is under way.
func (c *conn) Congestion() string { return "" }

// How many unsent bytes one may wait at either end.
const (
	leastUnsent = 1 << 10
	mostUnsent  = 16 << 10
)

// A deadline is a time after which nobody waits. The zero deadline is none.
type deadline struct {
	mu    sync.Mutex
	at    time.Time
	timer *time.Timer
	ended chan struct{} // closed when the time is over or has been changed
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.ended != nil {
		close(d.ended) // who waits looks again
		d.ended = nil
	}
	d.at = t
}

func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

// wait returns a channel that is closed when it is time to look again.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended == nil {
		d.ended = make(chan struct{})
	}
	if d.timer == nil && !d.at.IsZero() {
		d.timer = time.AfterFunc(time.Until(d.at), func() { d.expire() })
	}
	return d.ended
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != nil && !d.at.IsZero() && !time.Now().Before(d.at) {
		close(d.ended)
		d.ended = nil
	}
}
