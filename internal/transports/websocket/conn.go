package websocket

import (
	"bufio"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Frames (RFC 6455, section 5.2).
//
//	FIN (1) | RSV (3) | opcode (4) | MASK (1) | length (7) | length (0, 16 or 64) | mask (0 or 32) | payload
const (
	opContinuation = 0
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	final  = 0x80
	masked = 0x80

	// maxPayload is how much goes in one of our frames: whoever on the way gathers frames gathers no more.
	maxPayload = 16 << 10
	// maxFrame is how long one of the far end's may be. It is not gathered.
	maxFrame   = 16 << 20
	maxControl = 125
)

var errFrame = errors.New("what came is no frame of a WebSocket")

// head is a frame's beginning.
type head struct {
	op     byte
	masked bool
	mask   [4]byte
	length int
}

// readHead reads one. fromClient says whose frames these are: a client's are masked, and a server's are not (5.1).
func readHead(r io.Reader, fromClient bool) (h head, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return h, err
	}
	h.op, h.masked = b[0]&0x0f, b[1]&masked != 0
	control := h.op >= opClose
	length := uint64(b[1] &^ masked)
	switch {
	case b[0]&0x70 != 0, h.masked != fromClient, control && (b[0]&final == 0 || length > maxControl):
		return h, errFrame
	case h.op != opContinuation && h.op != opBinary && (h.op < opClose || h.op > opPong):
		return h, errFrame
	}
	if n := map[uint64]int{126: 2, 127: 8}[length]; n > 0 {
		if _, err := io.ReadFull(r, b[8-n:]); err != nil {
			return h, err
		}
		clear(b[:8-n])
		length = binary.BigEndian.Uint64(b[:])
	}
	if length > maxFrame {
		return h, errFrame
	}
	h.length = int(length)
	if h.masked {
		_, err = io.ReadFull(r, h.mask[:])
	}
	return h, err
}

// appendFrame draws a frame, with a mask if it is a client's.
func appendFrame(b []byte, op byte, payload []byte, fromClient bool) []byte {
	b = append(b, final|op)
	var mask byte
	if fromClient {
		mask = masked
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if !fromClient {
		return append(b, payload...)
	}
	// The mask keeps scripts from writing bytes of their choice; here nobody could, and it need not be unpredictable.
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], mrand.Uint32())
	b = append(append(b, key[:]...), payload...)
	xor(b[len(b)-len(payload):], key, 0)
	return b
}

// xor masks b, of which at bytes came before.
func xor(b []byte, key [4]byte, at int) {
	var pattern [1 << 10]byte
	n := min(len(b), len(pattern))
	for i := range n {
		pattern[i] = key[(at+i)&3]
	}
	for len(b) > 0 {
		b = b[subtle.XORBytes(b, b[:min(n, len(b))], pattern[:n]):]
	}
}

// conn is bytes in a WebSocket's frames. It is a tcp.Layer. One Read and one Write may run at once.
type conn struct {
	tcp.Below
	client bool
	r      *bufio.Reader // of Below

	// The reader's.
	head head // of the frame under way
	done int  // of its payload

	mu     sync.Mutex    // one write at a time
	idle   time.Duration // at the client
	ping   *time.Timer
	closed bool
	began  time.Time
	wrote  atomic.Int64 // when, in nanoseconds since, by the monotonic clock: the wall clock may be set meanwhile
}

var _ tcp.Layer = (*conn)(nil)

// newConn makes a conn. r reads from below, of which it may have read some already. A client pings after at least idle.
func newConn(below net.Conn, r *bufio.Reader, client bool, idle time.Duration) *conn {
	c := &conn{Below: tcp.Below{Conn: below}, client: client, r: r, idle: idle, began: time.Now()}
	if client {
		c.mu.Lock()
		c.ping = time.AfterFunc(c.nextPing(), c.keepAlive)
		c.mu.Unlock()
	}
	return c
}

func (c *conn) nextPing() time.Duration { return c.idle + mrand.N(c.idle*2/3) }

// keepAlive pings if nothing was sent for as long as the timer ran.
func (c *conn) keepAlive() {
	wait := c.nextPing()
	if idle := time.Since(c.began) - time.Duration(c.wrote.Load()); idle < c.idle {
		wait -= idle
	} else if !c.Backlog() && c.control(opPing, nil) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.ping.Reset(wait)
	}
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for c.done == c.head.length {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.r.Read(b[:min(len(b), c.head.length-c.done)])
	if c.head.masked {
		xor(b[:n], c.head.mask, c.done)
	}
	c.done += n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads up to the payload of the next frame that has one for us.
func (c *conn) next() (err error) {
	c.done, c.head = 0, head{}
	h, err := readHead(c.r, !c.client)
	if err != nil {
		return err
	}
	if h.op < opClose {
		c.head = h
		return nil
	}
	payload := make([]byte, h.length)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return err
	}
	if h.masked {
		xor(payload, h.mask, 0)
	}
	switch {
	case h.op == opClose:
		return io.EOF
	case h.op == opPing && !c.Backlog(): // with that, something is on its way anyway
		return c.control(opPong, payload)
	}
	return nil
}

func (c *conn) control(op byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote.Store(int64(time.Since(c.began)))
	_, err := c.Conn.Write(appendFrame(nil, op, payload, c.client))
	return err
}

// buffers hold what one Write makes: a batch of the session, sealed, and the frames' overhead.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 152<<10); return &b }}

// Write implements net.Conn: all of it in one write.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = (*buf)[:0]
	for rest := b; len(rest) > 0; {
		n := min(len(rest), maxPayload)
		*buf = appendFrame(*buf, opBinary, rest[:n], c.client)
		rest = rest[n:]
	}
	c.wrote.Store(int64(time.Since(c.began)))
	if _, err := c.Conn.Write(*buf); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close implements net.Conn, as a browser whose page is gone does: without a word.
func (c *conn) Close() error {
	err := c.Conn.Close() // whoever writes is done with that
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.ping != nil {
		c.ping.Stop()
	}
	return err
}
