//go:build unix

package rawio

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn reads and writes a connection's descriptor without holding a buffer while it waits: a thousand idle connections
// would otherwise keep a thousand buffers. One Read and one TryWrite may run at once.
type Conn struct {
	c syscall.RawConn

	// The closures are made once, since they are used for every read and write; what they work on is here.
	reader func(fd uintptr) bool
	n      int
	err    error
	writer func(fd uintptr) bool
	p      []byte
	wrote  int
	werr   error
}

// New makes a Conn of conn, or returns nil if conn has no descriptor that could be tried. take gives the buffer for a
// read once there is something to read; give takes it back if nothing came after all.
func New(conn net.Conn, take func() []byte, give func()) *Conn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	c := &Conn{c: raw}
	c.reader = func(fd uintptr) bool {
		buf := take()
		for {
			c.n, c.err = read(int(fd), buf)
			if c.err != unix.EINTR {
				break
			}
		}
		if c.err != nil || c.n <= 0 {
			give()
		}
		return c.err != unix.EAGAIN
	}
	c.writer = func(fd uintptr) bool {
		for c.wrote < len(c.p) {
			n, err := write(int(fd), c.p[c.wrote:])
			if n > 0 {
				c.wrote += n
			}
			switch err {
			case nil, unix.EINTR:
			case unix.EAGAIN:
				return true
			default:
				c.werr = err
				return true
			}
		}
		return true
	}
	return c
}

// Read waits until there is something to read and reads it into what take gave. At the end it returns io.EOF.
func (c *Conn) Read() (int, error) {
	c.n, c.err = 0, nil
	if err := c.c.Read(c.reader); err != nil {
		return 0, err
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.n <= 0 {
		return 0, io.EOF
	}
	return c.n, nil
}

// TryWrite writes as much of p as goes without waiting.
func (c *Conn) TryWrite(p []byte) (int, error) {
	c.p, c.wrote, c.werr = p, 0, nil
	err := c.c.Write(c.writer)
	c.p = nil
	if err == nil {
		err = c.werr
	}
	return c.wrote, err
}
