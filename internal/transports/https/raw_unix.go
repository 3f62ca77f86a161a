//go:build unix

package https

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/rawio"
)

// rawConn reads and writes a descriptor as far as that goes without waiting. One read and one write may run at once.
type rawConn struct {
	c syscall.RawConn

	// The closures are made once, for every record goes through them; what they work on is here.
	reader func(fd uintptr) bool
	buf    *[]byte
	n      int
	err    error
	writer func(fd uintptr) bool
	p      []byte
	wrote  int
	werr   error
}

func newRawConn(c net.Conn) *rawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawConn{c: rc}
	r.reader = func(fd uintptr) bool {
		buf := buffers.Get().(*[]byte)
		for {
			r.n, r.err = rawio.Read(int(fd), (*buf)[:cap(*buf)])
			if r.err != unix.EINTR {
				break
			}
		}
		if r.err != nil || r.n <= 0 {
			putBuffer(buf)
			return r.err != unix.EAGAIN
		}
		r.buf = buf
		return true
	}
	r.writer = func(fd uintptr) bool {
		for r.wrote < len(r.p) {
			n, err := rawio.Write(int(fd), r.p[r.wrote:])
			if n > 0 {
				r.wrote += n
			}
			switch err {
			case nil, unix.EINTR:
			case unix.EAGAIN:
				return true
			default:
				r.werr = err
				return true
			}
		}
		return true
	}
	return r
}

// read waits until there is something and reads it into a buffer, which the caller owns.
func (r *rawConn) read() (buf *[]byte, n int, err error) {
	r.buf, r.n, r.err = nil, 0, nil
	if err := r.c.Read(r.reader); err != nil {
		return nil, 0, err
	}
	if r.err != nil {
		return nil, 0, r.err
	}
	if r.n <= 0 {
		return nil, 0, io.EOF
	}
	buf, r.buf = r.buf, nil
	return buf, r.n, nil
}

// tryWrite writes what goes without waiting.
func (r *rawConn) tryWrite(p []byte) (int, error) {
	r.p, r.wrote, r.werr = p, 0, nil
	err := r.c.Write(r.writer)
	r.p = nil
	if err == nil {
		err = r.werr
	}
	return r.wrote, err
}
