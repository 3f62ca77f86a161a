package quic

import (
	"context"
	"crypto/sha256"
	"io"
	"net"
	"sync"
	"time"

	quicgo "github.com/sagernet/quic-go"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/quic/bbr"
)

// conn is one QUIC connection of ours, of which stream 0 carries the link's bytes, and others those of its lanes. It
// implements transport.Conn, BatchWriter, NonBlocking, Tuned and Laned.
//
// What is written is kept in a queue for each lane, from which a goroutine feeds the lane's stream while there is
// something. A stream takes bytes as packets take them, so the queues are what has not left this machine:
//
//	WriteBatch, WriteLanes ──> queues ──> feed ──> streams ──> packets
//	                        at most limit; more is a backlog
type conn struct {
	qc        *quicgo.Conn
	stream    *quicgo.Stream
	open      func() (outgoing, error) // begins a stream for a lane
	control   *bbr.Controller
	export    func(label string, context []byte, n int) ([]byte, error)
	serverKey [sha256.Size]byte
	knock     []byte
	shut      func()        // closes the client's socket
	closed    chan struct{} // Close was called
	fed       chan struct{} // it was, and nothing is fed any more
	hosted    chan func()   // at the gateway: for the goroutine that the HTTP server has for the stream
	once      sync.Once

	entry []byte // at the client, until it is through the door: the marker. The reader's.

	take   func(io.Reader) // what the far side's lanes bring
	takers chan struct{}   // closed when there is take

	mu      sync.Mutex
	room    sync.Cond // there is room, or an end
	main    lane      // lane 0
	lanes   lanes
	feeding int // how many lanes are fed
	unsent  int // of the queues, and of what feed has taken and not passed on
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
	_ transport.Laned       = (*conn)(nil)
)

const (
	// unsentLimit is what may be unsent while nobody says otherwise, leastUnsent what may be in any case: less, and
	// packets wait for the feeder. It passes on half of the limit at once, which is how finely it knows what is unsent.
	unsentLimit = 128 << 10
	leastUnsent = 16 << 10
	// firstQueue is how large a queue is at first. It grows with what is fed by it.
	firstQueue = 16 << 10

	// What was written before Close is still delivered, if that takes no longer than this.
	lingerTime = time.Second
)

// buffers are for queues. An idle connection has none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, firstQueue); return &b }}

func newConn(qc *quicgo.Conn, export func(string, []byte, int) ([]byte, error), key [sha256.Size]byte) *conn {
	c := &conn{qc: qc, export: export, serverKey: key, shut: func() {}, limit: unsentLimit,
		closed: make(chan struct{}), fed: make(chan struct{}), takers: make(chan struct{})}
	c.room.L = &c.mu
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
	c.main.stream = stream
	context.AfterFunc(c.qc.Context(), c.died)
}

// died ends what waits when the connection has ended.
func (c *conn) died() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.why(context.Cause(c.qc.Context()))
	}
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
		c.mu.Lock()
		c.lanes.allowed = true
		c.mu.Unlock()
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
func (c *conn) WriteBatch(bufs [][]byte) error { return c.WriteLanes(bufs, nil) }

// WriteLanes implements transport.Laned. Without lanes all goes by lane 0.
func (c *conn) WriteLanes(bufs [][]byte, lanes []uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reply != nil {
		marker, err := c.marker()
		if err != nil {
			return err
		}
		bufs, lanes, c.reply = c.reply.begin(marker, bufs), nil, nil
		c.lanes.allowed = true
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
	c.wrote = time.Now()
	if lanes != nil {
		c.leaveIdleLocked()
	}
	for i, b := range bufs {
		l := &c.main
		if lanes != nil {
			l = c.laneLocked(lanes[i])
		}
		c.queueLocked(l, b)
	}
	c.backlog = c.backlog || c.drained != nil && c.unsent > c.limit
	return nil
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
		c.room.Broadcast()
		if c.feeding == 0 {
			close(c.fed)
		}
		by := time.Now().Add(lingerTime)
		for _, l := range c.lanes.open {
			l.stream.SetWriteDeadline(by)
		}
		c.mu.Unlock()
		c.stream.SetReadDeadline(time.Unix(1, 0))
		if idle {
			c.end()
			return
		}
		c.stream.SetWriteDeadline(by)
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
