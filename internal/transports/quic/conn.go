package quic

import (
	"context"
	"crypto/sha256"
	"net"
	"sync"
	"time"

	quicgo "github.com/sagernet/quic-go"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/quic/bbr"
)

// conn is one QUIC connection of ours, of which stream 0 carries the link's bytes. It implements transport.Conn,
// BatchWriter, NonBlocking and Tuned.
//
// What is written is kept in a queue, from which a goroutine feeds the stream. The stream takes bytes as packets take
// them, so the queue is what has not left this machine:
//
//	WriteBatch ──> queue ──> feed ──> stream ──> packets
//	            at most limit; more is a backlog
type conn struct {
	qc        *quicgo.Conn
	stream    *quicgo.Stream
	control   *bbr.Controller
	export    func(label string, context []byte, n int) ([]byte, error)
	serverKey [sha256.Size]byte
	knock     []byte
	shut      func()        // closes the client's socket
	closed    chan struct{} // Close was called
	fed       chan struct{} // feed has ended
	hosted    chan func()   // at the gateway: for the goroutine that the HTTP server has for the stream
	once      sync.Once

	entry []byte // at the client, until it is through the door: the marker. The reader's.

	mu      sync.Mutex
	fill    sync.Cond // there is something to feed, or an end
	room    sync.Cond // there is room, or an end
	queue   []byte    // a buffer of buffers, or nil
	unsent  int       // of the queue, and of what feed has taken and not passed on
	limit   int
	drained func()
	backlog bool
	wrote   time.Time // when last
	ending  bool      // nothing more is written
	err     error     // of the stream
	reply   *reply    // at the gateway, until the first batch
}

var (
	_ transport.Conn        = (*conn)(nil)
	_ transport.BatchWriter = (*conn)(nil)
	_ transport.NonBlocking = (*conn)(nil)
	_ transport.Tuned       = (*conn)(nil)
)

const (
	// unsentLimit is what may be unsent while nobody says otherwise, leastUnsent what may be in any case: less, and
	// packets wait for the feeder. It passes on half of the limit at once, which is how finely it knows what is unsent.
	unsentLimit = 128 << 10
	leastUnsent = 16 << 10

	// What was written before Close is still delivered, if that takes no longer than this.
	lingerTime = time.Second
)

// buffers are for queues. An idle connection has none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, unsentLimit); return &b }}

func newConn(qc *quicgo.Conn, export func(string, []byte, int) ([]byte, error), key [sha256.Size]byte) *conn {
	c := &conn{qc: qc, export: export, serverKey: key, shut: func() {}, limit: unsentLimit,
		closed: make(chan struct{}), fed: make(chan struct{})}
	c.fill.L, c.room.L = &c.mu, &c.mu
	return c
}

// steer has our controller say from now on how fast the connection sends.
func (c *conn) steer() {
	c.control = bbr.New(c.qc.InitialPacketSize())
	c.qc.SetCongestionControl(c.control)
}

// begin makes the stream the link's.
func (c *conn) begin(stream *quicgo.Stream) {
	c.stream = stream
	context.AfterFunc(c.qc.Context(), c.died)
	go c.feed()
}

// died ends what waits when the connection has ended.
func (c *conn) died() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.why(context.Cause(c.qc.Context()))
	}
	c.fill.Signal()
	c.room.Broadcast()
}

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
		through, err := readMarker(c.stream, c.entry)
		if err != nil {
			return 0, c.why(err)
		}
		if !through {
			return 0, dialError(transport.StageDoor, transport.ErrDoor)
		}
		c.entry = nil
	}
	n, err := c.stream.Read(b)
	if err != nil {
		err = c.why(err)
	}
	return n, err
}

// why is what the caller is told of an error.
func (c *conn) why(err error) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
		return err
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.WriteBatch([][]byte{b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteBatch implements transport.BatchWriter.
func (c *conn) WriteBatch(bufs [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reply != nil {
		marker, err := c.marker()
		if err != nil {
			return err
		}
		bufs, c.reply = c.reply.begin(marker, bufs), nil
	}
	for c.drained == nil && c.unsent >= c.limit && c.err == nil && !c.ending {
		c.room.Wait()
	}
	switch {
	case c.ending:
		return net.ErrClosed
	case c.err != nil:
		return c.err
	}
	if c.queue == nil {
		c.queue = *buffers.Get().(*[]byte)
	}
	for _, b := range bufs {
		c.queue = append(c.queue, b...)
		c.unsent += len(b)
	}
	c.backlog = c.backlog || c.drained != nil && c.unsent > c.limit
	c.wrote = time.Now()
	c.fill.Signal()
	return nil
}

// feed passes on what is queued until the connection ends.
func (c *conn) feed() {
	defer close(c.fed)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.queue) == 0 && !c.ending && c.err == nil {
			c.fill.Wait()
		}
		if len(c.queue) == 0 || c.err != nil {
			return
		}
		all := c.queue
		c.queue = nil
		for left := all; len(left) > 0 && c.err == nil; {
			n := min(len(left), c.limit/2)
			c.mu.Unlock()
			_, err := c.stream.Write(left[:n])
			c.mu.Lock()
			left = left[n:]
			c.unsent -= n
			if err != nil {
				c.err = c.why(err)
			}
			if c.backlog && c.unsent <= c.limit/2 && c.err == nil {
				c.backlog = false
				go c.drained()
			}
			c.room.Broadcast()
		}
		if cap(all) <= 2*unsentLimit {
			all = all[:0]
			buffers.Put(&all)
		}
	}
}

// OnDrained implements transport.NonBlocking.
func (c *conn) OnDrained(drained func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drained = drained
}

// Backlog implements transport.NonBlocking.
func (c *conn) Backlog() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backlog
}

// Measure implements transport.Tuned.
func (c *conn) Measure() transport.Path {
	s := c.qc.ConnectionStats()
	return transport.Path{RTT: s.SmoothedRTT, LeastRTT: s.MinRTT, Sent: s.PacketsSent, Resent: c.control.PacketsLost()}
}

// SetUnsentLimit implements transport.Tuned.
func (c *conn) SetUnsentLimit(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = max(bytes, leastUnsent)
}

// Congestion implements transport.Tuned.
func (c *conn) Congestion() string { return bbr.Name }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.qc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.qc.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. Writes that wait are those of the queue's feeder; when it is late the
// connection is of no more use.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// Close implements net.Conn. What was written shortly before is given a moment to arrive, in the background.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.mu.Lock()
		c.ending = true
		idle := c.unsent == 0 && time.Since(c.wrote) > lingerTime || c.err != nil
		c.fill.Signal()
		c.room.Broadcast()
		c.mu.Unlock()
		c.stream.SetReadDeadline(time.Unix(1, 0))
		if idle {
			c.end()
			return
		}
		c.stream.SetWriteDeadline(time.Now().Add(lingerTime))
		go c.linger()
	})
	return nil
}

// linger waits until what was written has arrived, as far as that can be told: the far end closes when it has read all.
func (c *conn) linger() {
	late := time.NewTimer(lingerTime)
	defer late.Stop()
	select {
	case <-c.fed:
		c.stream.Close()
	case <-c.qc.Context().Done():
	case <-late.C:
	}
	few := 4 * max(c.qc.ConnectionStats().SmoothedRTT, 10*time.Millisecond)
	soon := time.NewTimer(few)
	defer soon.Stop()
	select {
	case <-c.qc.Context().Done():
	case <-soon.C:
	case <-late.C:
	}
	c.end()
}

// end ends the connection.
func (c *conn) end() {
	c.qc.CloseWithError(noError, "")
	<-c.fed
	c.shut()
}

// serve runs what is hosted and waits for the end of the connection.
func (c *conn) serve() {
	select {
	case f := <-c.hosted:
		f()
	case <-c.qc.Context().Done():
	}
	<-c.qc.Context().Done()
}

// hostedConn is a conn at the gateway. It implements transport.Hosted.
type hostedConn struct{ *conn }

// Host implements transport.Hosted.
func (c hostedConn) Host(f func()) { c.hosted <- f }
