//go:build unix

package session

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/rawio"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// rawConn reads and writes a connection's descriptor without holding a buffer while it waits: a thousand idle streams
// would otherwise keep a thousand buffers. One read and one write may run at once.
type rawConn struct {
	c syscall.RawConn

	// The closures are made once, since they are used for every chunk; what they work on is here.
	read  func(fd uintptr) bool
	want  int
	buf   []byte
	n     int
	err   error
	write func(fd uintptr) bool
	p     []byte
	wrote int
	werr  error
}

// newRawConn returns nil if conn has no descriptor.
func newRawConn(conn net.Conn) *rawConn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	c, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawConn{c: c}
	r.read = func(fd uintptr) bool {
		buf := getBuffer(wire.DataOverhead + r.want)
		for {
			r.n, r.err = rawio.Read(int(fd), buf[wire.DataOverhead:])
			if r.err != unix.EINTR {
				break
			}
		}
		if r.err == unix.EAGAIN {
			putBuffer(buf)
			return false
		}
		r.buf = buf
		return true
	}
	r.write = func(fd uintptr) bool {
		for r.wrote < len(r.p) {
			n, err := rawio.Write(int(fd), r.p[r.wrote:])
			if n > 0 {
				r.wrote += n
			}
			switch err {
			case nil, unix.EINTR:
				continue
			case unix.EAGAIN:
				return true
			}
			r.werr = err
			return true
		}
		return true
	}
	return r
}

// readChunk waits until there is something to read and reads at most want bytes of it, behind room for a frame's
// header. The caller owns buf, which may be nil on an error.
func (r *rawConn) readChunk(want int) (buf []byte, n int, err error) {
	r.want, r.buf, r.n, r.err = want, nil, 0, nil
	if err := r.c.Read(r.read); err != nil {
		return nil, 0, err
	}
	buf, n, err = r.buf, max(r.n, 0), r.err
	r.buf = nil
	if err == nil && n == 0 {
		err = io.EOF
	}
	return shrink(buf, n), n, err
}

// tryWrite writes what goes without waiting.
func (r *rawConn) tryWrite(p []byte) (int, error) {
	r.p, r.wrote, r.werr = p, 0, nil
	err := r.c.Write(r.write)
	r.p = nil
	if err == nil {
		err = r.werr
	}
	return r.wrote, err
}
