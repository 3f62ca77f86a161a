package https

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// tap stands between the HTTP/2 server and TLS. The server serves whoever comes, from the first byte; the tap only
// watches. When the first request is complete and its knock opens the door, the server is given the end of the
// connection instead of the request's last bytes, and takes its leave: from then on the connection is ours.
//
//	TLS ── Read ──> watch ── unchanged ──> HTTP/2 server
//	                  └─ a knock that opens: EOF ──> server ends; its Close, deadlines and writes do nothing
//
// A visitor of the website meets the server and nothing else, at the server's own pace.
type tap struct {
	*tls.Conn
	opens func(knock []byte) bool

	watch *watch // nil once it is over; the server's reader alone uses it

	greeted chan struct{} // closed when the server has written its greeting

	mu       sync.Mutex // held while the server writes
	written  frames
	greeting bool   // the greeting is still to be waited for
	knock    []byte // what opened the door: the server is cut off
	rest     []byte // what came in one read behind the request
}

// greetTime is how long the server may take to write its part of the beginning of a connection before it is cut off.
// It had all it needs for that when the client's SETTINGS came, which is ahead of the request.
const greetTime = 20 * time.Millisecond

var noKnock = make([]byte, transport.MaxKnock)

func newTap(c *tls.Conn, knockLen int, opens func([]byte) bool) *tap {
	return &tap{Conn: c, opens: opens, watch: newWatch(knockLen), greeted: make(chan struct{}), greeting: true}
}

// Read implements net.Conn for the server.
func (t *tap) Read(p []byte) (int, error) {
	if t.watch == nil {
		if t.taken() {
			return 0, io.EOF
		}
		return t.Conn.Read(p)
	}
	n, err := t.Conn.Read(p)
	knock, used, done := t.watch.feed(p[:n])
	if !done {
		return n, err
	}
	t.watch = nil
	// Who does not knock is tried, too: that something is computed for a cookie of one length only could be timed.
	tried := knock
	if tried == nil {
		tried = noKnock
	}
	if opened := t.opens(tried); knock == nil || !opened {
		t.mu.Lock()
		t.greeting = false
		t.mu.Unlock()
		return n, err
	}
	select {
	case <-t.greeted:
	case <-time.After(greetTime):
	}
	t.mu.Lock()
	t.knock, t.rest = knock, append([]byte(nil), p[used:n]...)
	t.mu.Unlock()
	return 0, io.EOF
}

func (t *tap) taken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.knock != nil
}

// Write implements net.Conn for the server.
func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.knock != nil {
		return 0, net.ErrClosed
	}
	n, err := t.Conn.Write(p)
	if t.greeting && t.written.feed(p[:n], isGreeted) {
		close(t.greeted)
		t.greeting = false
	}
	return n, err
}

// Close implements net.Conn for the server.
func (t *tap) Close() error {
	if t.taken() {
		return nil
	}
	return t.Conn.Close()
}

// SetDeadline implements net.Conn for the server.
func (t *tap) SetDeadline(d time.Time) error { return t.unlessTaken(t.Conn.SetDeadline, d) }

// SetReadDeadline implements net.Conn for the server.
func (t *tap) SetReadDeadline(d time.Time) error { return t.unlessTaken(t.Conn.SetReadDeadline, d) }

// SetWriteDeadline implements net.Conn for the server.
func (t *tap) SetWriteDeadline(d time.Time) error { return t.unlessTaken(t.Conn.SetWriteDeadline, d) }

func (t *tap) unlessTaken(set func(time.Time) error, d time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.knock != nil {
		return nil
	}
	return set(d)
}
