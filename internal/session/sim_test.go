package session

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// simLink is a link's worth of network in memory, with a firewall in it: two connections joined by two directions.
type simLink struct {
	up, down *simDir // client to gateway and back
	client   *simConn
	gateway  *simConn
}

// simPath says what a link is like.
type simPath struct {
	delay time.Duration // one way
	rate  float64       // bytes per second, each way
	// blocking makes plain connections whose Write waits, as a pipe does, rather than ones that keep what does not go.
	blocking bool
	// measured makes connections that know their path, on which losses is the share that was sent again.
	measured bool
	losses   float64
	// scarce makes connections that say so of themselves.
	scarce bool
}

func newSimLink(p simPath) *simLink {
	l := &simLink{up: newSimDir(p), down: newSimDir(p)}
	l.client = &simConn{in: l.down, out: l.up, scarce: p.scarce}
	l.gateway = &simConn{in: l.up, out: l.down, scarce: p.scarce}
	return l
}

// conns returns both ends, as the session should see them.
func (l *simLink) conns(p simPath) (client, gateway transport.Conn) {
	if p.blocking {
		return l.client, l.gateway
	}
	if p.measured {
		return &simMeasured{simNonBlocking{simConn: l.client}, p}, &simMeasured{simNonBlocking{simConn: l.gateway}, p}
	}
	return &simNonBlocking{simConn: l.client}, &simNonBlocking{simConn: l.gateway}
}

// The faults a firewall or a network commits.
func (l *simLink) reset()     { l.up.close(errSimReset); l.down.close(errSimReset) }
func (l *simLink) blackHole() { l.up.swallowAfter(0); l.down.swallowAfter(0) }

var errSimReset = errors.New("connection reset by the simulated firewall")

// simBuffer is what a direction holds unsent, as a socket does.
const simBuffer = 64 << 10

// simDir is one direction: bytes arrive in order, a delay after the rate let them out.
type simDir struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	delay   time.Duration
	rate    float64
	queue   []simSegment
	out     time.Time // when all that was written will have left
	left    int       // bytes that still go through; -1 for no limit
	sent    int       // bytes
	err     error     // what Read gives when the queue is empty
	closed  bool      // nothing can be written any more
}

type simSegment struct {
	data []byte
	at   time.Time
}

func newSimDir(p simPath) *simDir {
	return &simDir{changed: make(chan struct{}), delay: p.delay, rate: p.rate, left: -1}
}

func (d *simDir) changedLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// swallowAfter lets n more bytes through and then none, without a word. What was swallowed stays so: a second freeze does
// not thaw the first.
func (d *simDir) swallowAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left >= 0 {
		n = min(n, d.left)
	}
	if d.left = n; n == 0 {
		d.queue = nil
	}
}

// gone reports whether nothing comes through any more.
func (d *simDir) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed || d.left == 0
}

// hold delays what is written from now on.
func (d *simDir) hold(long time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.out = now.Add(d.unsentLocked(now) + long)
}

func (d *simDir) setRate(rate float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rate = rate
}

// close ends the direction: what has not arrived is lost if err is not io.EOF.
func (d *simDir) close(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed && (d.err != io.EOF || err == io.EOF) {
		return
	}
	d.closed, d.err = true, err
	if err != io.EOF {
		d.queue = nil
	}
	d.changedLocked()
}

// unsentLocked is how long it takes until all that was written has left.
func (d *simDir) unsentLocked(now time.Time) time.Duration { return max(0, d.out.Sub(now)) }

// put queues p. It reports how long the direction is over its buffer then.
func (d *simDir) put(p []byte) (over time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, net.ErrClosed
	}
	d.sent += len(p)
	now := time.Now()
	if d.out.Before(now) {
		d.out = now
	}
	full := time.Duration(float64(simBuffer) / d.rate * float64(time.Second))
	if d.left == 0 { // swallowed: it seems to go until the buffer is full, and then nothing does
		d.out = now.Add(time.Duration(float64(len(p)) / d.rate * float64(time.Second))).Add(d.unsentLocked(now))
		if d.unsentLocked(now) > full {
			return time.Hour, nil
		}
		return 0, nil
	}
	if d.left > 0 {
		n := min(d.left, len(p))
		d.left -= n
		p = p[:n]
	}
	d.out = d.out.Add(time.Duration(float64(len(p)) / d.rate * float64(time.Second)))
	d.queue = append(d.queue, simSegment{append([]byte(nil), p...), d.out.Add(d.delay)})
	d.changedLocked()
	return d.unsentLocked(now) - full, nil
}

func (d *simDir) read(p []byte) (int, error) {
	for {
		d.mu.Lock()
		changed, wait := d.changed, time.Duration(-1)
		if len(d.queue) > 0 {
			seg := &d.queue[0]
			if wait = time.Until(seg.at); wait <= 0 {
				n := copy(p, seg.data)
				if seg.data = seg.data[n:]; len(seg.data) == 0 {
					d.queue = d.queue[1:]
				}
				d.mu.Unlock()
				return n, nil
			}
		} else if d.err != nil {
			err := d.err
			d.mu.Unlock()
			return 0, err
		}
		d.mu.Unlock()
		if wait < 0 {
			<-changed
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

// simConn is one end. Its Write waits while the direction is over its buffer.
type simConn struct {
	scarce  bool
	in, out *simDir
	once    sync.Once
	closed  chan struct{}
	init    sync.Once
}

func (c *simConn) done() chan struct{} {
	c.init.Do(func() { c.closed = make(chan struct{}) })
	return c.closed
}

func (c *simConn) Read(p []byte) (int, error) { return c.in.read(p) }

func (c *simConn) Write(p []byte) (int, error) {
	over, err := c.out.put(p)
	if err != nil {
		return 0, err
	}
	if over > 0 {
		t := time.NewTimer(over)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.done():
			return 0, net.ErrClosed
		}
	}
	return len(p), nil
}

func (c *simConn) Close() error {
	c.once.Do(func() {
		close(c.done())
		c.in.close(net.ErrClosed)
		c.out.close(io.EOF)
	})
	return nil
}

func (c *simConn) Scarce() bool                     { return c.scarce }
func (c *simConn) LocalAddr() net.Addr              { return streamAddr{} }
func (c *simConn) RemoteAddr() net.Addr             { return streamAddr{} }
func (c *simConn) SetDeadline(time.Time) error      { return nil }
func (c *simConn) SetReadDeadline(time.Time) error  { return nil }
func (c *simConn) SetWriteDeadline(time.Time) error { return nil }
func (c *simConn) ServerKey() [32]byte              { return [32]byte{} }
func (c *simConn) Knock() []byte                    { return nil }
func (c *simConn) Export(string, []byte, int) ([]byte, error) {
	return nil, errors.New("not a TLS connection")
}

// simNonBlocking is a simConn whose Write never waits.
type simNonBlocking struct {
	*simConn
	mu      sync.Mutex
	drained func()
	full    bool
}

func (c *simNonBlocking) OnDrained(f func()) { c.drained = f }

func (c *simNonBlocking) Backlog() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.full
}

func (c *simNonBlocking) Write(p []byte) (int, error) {
	over, err := c.out.put(p)
	if err != nil {
		return 0, err
	}
	if over > 0 {
		c.mu.Lock()
		c.full = true
		c.mu.Unlock()
		go func() {
			t := time.NewTimer(over)
			defer t.Stop()
			select {
			case <-t.C:
			case <-c.done():
				return
			}
			c.mu.Lock()
			c.full = false
			c.mu.Unlock()
			c.drained()
		}()
	}
	return len(p), nil
}

func (c *simNonBlocking) WriteBatch(bufs [][]byte) error {
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	_, err := c.Write(all)
	return err
}

// simMeasured is a simNonBlocking that knows its path, as the kernel does.
type simMeasured struct {
	simNonBlocking
	path simPath
}

func (c *simMeasured) SetUnsentLimit(int) {}
func (c *simMeasured) Congestion() string { return "" }

func (c *simMeasured) Measure() transport.Path {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	segments := uint64(1 + c.out.sent/1448)
	return transport.Path{RTT: 2 * c.path.delay, LeastRTT: 2 * c.path.delay, Sent: segments,
		Resent: uint64(float64(segments) * c.path.losses)}
}
