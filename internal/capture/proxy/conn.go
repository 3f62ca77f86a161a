package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/owner"
)

// conn is one application's connection:
//
//	sniff ─┬─ SOCKS5 ── tunnel or association ── end
//	       ├─ HTTP ── net/http's goroutine ─┬─ closed ── end
//	       │                                └─ taken over ── tunnel ── end
//	       └─ neither ── end
//
// As a net.Conn it gives what the sniffer has read ahead before the rest.
type conn struct {
	net.Conn // tcp, but only the methods of net.Conn: TCPConn's WriteTo would pass by what has been read ahead
	tcp      *net.TCPConn
	read     *bufio.Reader // over tcp; as large as any SOCKS message. Nil once taken
	sv       *serving

	ctx       context.Context // done when the connection ends or Serve does
	cancel    context.CancelFunc
	stopReset func() bool // undoes the reset at shutdown
	tooLate   *time.Timer // until the first request is complete
	endOnce   sync.Once

	taken atomic.Bool // hijacked from net/http: the handler ends it
	// the handler's:
	transport *http.Transport // nil until the first plain request
	upload    *upload         // the body of the plain request being served, if it has one
}

// readAhead holds any SOCKS message: the longest is a login of 513 bytes.
const readAhead = 1024

func (sv *serving) newConn(tcp *net.TCPConn) *conn {
	c := &conn{Conn: tcp, tcp: tcp, read: bufio.NewReaderSize(tcp, readAhead), sv: sv}
	c.ctx, c.cancel = context.WithCancel(sv.ofApplication(tcp))
	c.stopReset = context.AfterFunc(sv.ctx, func() { reset(tcp) })
	c.tooLate = time.AfterFunc(sv.cfg.FirstRequest, func() {
		sv.firstTooLate.Add(1)
		reset(tcp)
	})
	return c
}

// ofApplication is Serve's context, with whose connection it is.
func (sv *serving) ofApplication(c net.Conn) context.Context {
	theirs, ours := c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()
	return owner.With(sv.ctx, owner.Socket{Local: plain(theirs), Remote: plain(ours)})
}

// sniff finds out who speaks.
func (c *conn) sniff() {
	first, err := c.read.Peek(1)
	switch {
	case err != nil:
	case first[0] == socks5Version:
		c.socks()
	case first[0] == socks4Version:
		c.refuseSocks4()
	case 'A' <= first[0] && first[0] <= 'Z':
		select {
		case c.sv.handoff <- c:
			return // net/http's from here
		case <-c.sv.ctx.Done():
		}
	default:
		c.sv.unintelligible.Add(1)
		reset(c.tcp)
	}
	c.end()
}

// requested notes that the first request came in time.
func (c *conn) requested() { c.tooLate.Stop() }

// spare leaves the connection alone at shutdown: someone else sees to it.
func (c *conn) spare() { c.stopReset() }

// end closes the connection and gives its place back. The last thing any owner does.
func (c *conn) end() {
	c.endOnce.Do(func() {
		c.tooLate.Stop()
		c.stopReset()
		c.cancel()
		if c.transport != nil {
			c.transport.CloseIdleConnections()
		}
		c.Close()
		c.sv.conns.Add(-1)
		c.sv.life.leave()
	})
}

// Read gives the bytes read ahead first.
func (c *conn) Read(p []byte) (int, error) {
	if c.read != nil {
		if c.read.Buffered() > 0 {
			return c.read.Read(p)
		}
		c.read = nil
	}
	return c.tcp.Read(p)
}

// Close closes in order while Serve goes on, and resets after: what a shutdown cuts short must not look complete.
func (c *conn) Close() error {
	if c.sv.ctx.Err() != nil {
		c.tcp.SetLinger(0)
	}
	return c.tcp.Close()
}

// CloseWrite lets net/http close gently.
func (c *conn) CloseWrite() error { return c.tcp.CloseWrite() }

// takeRead returns what was read ahead and leaves the rest to be read from tcp itself.
func (c *conn) takeRead() []byte {
	if c.read == nil {
		return nil
	}
	ahead, _ := c.read.Peek(c.read.Buffered())
	c.read = nil
	return ahead
}

// watch returns a context that is done when the application goes away while it waits for our answer, so that a
// browser's lost race or a closed tab does not leave a dial behind. stop ends the watch, and nothing that came meanwhile
// is lost.
//
// An application that ends its direction before it heard the answer counts as gone: that is what closing looks like
// from here. One that first sent something is not watched.
func (c *conn) watch() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	if c.read.Buffered() > 0 {
		return ctx, cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := c.read.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
	}()
	return ctx, func() {
		c.tcp.SetReadDeadline(time.Unix(1, 0))
		<-done
		c.tcp.SetReadDeadline(time.Time{})
		cancel()
	}
}

// finish closes after a last answer. To close with unread bytes would be a reset, which may overtake the answer; so it
// reads on for a moment.
func (c *conn) finish() {
	const longest, most = time.Second, 64 << 10
	c.tcp.CloseWrite()
	c.tcp.SetReadDeadline(time.Now().Add(longest))
	io.CopyN(io.Discard, c, most)
	c.tcp.Close()
}

// reset closes tcp with an RST.
func reset(tcp *net.TCPConn) {
	tcp.SetLinger(0)
	tcp.Close()
}

// life counts what Serve must outlive. Unlike a bare WaitGroup it may be entered while it ends.
type life struct {
	mu   sync.Mutex
	over bool // guarded by mu
	wg   sync.WaitGroup
}

// enter reports whether there is still time; if so, leave must follow.
func (l *life) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.wg.Add(1)
	return true
}

func (l *life) leave() { l.wg.Done() }

// end lets nobody in any more and returns when all have left.
func (l *life) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.wg.Wait()
}
