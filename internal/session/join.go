package session

import (
	"errors"
	"io"
	"net"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/rawio"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// sink is where Join puts the bytes that arrive.
type sink struct {
	conn net.Conn
	raw  *rawio.Conn // nil where conn has no file descriptor to try
}

// tryWrite writes as much of p as goes without waiting.
func (k *sink) tryWrite(p []byte) (int, error) {
	if k.raw == nil {
		return 0, nil
	}
	return k.raw.TryWrite(p)
}

// closeWrite tells the application that no more will come. It does not wait.
func (k *sink) closeWrite() {
	if c, ok := k.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// abortConn closes a connection so that its other end sees a reset.
func abortConn(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}

// Join carries conn's bytes over the stream and back. It implements flow.Stream.
//
// The bytes that arrive are written to conn by the link's reader as long as conn takes them at once; what it does not
// take is written by a goroutine that lives until it has caught up. The caller's goroutine carries the other direction.
func (st *Stream) Join(conn net.Conn) error {
	s := st.s
	raw, chunks := newChunkReader(conn)
	s.mu.Lock()
	if st.err != nil {
		err := st.err
		s.mu.Unlock()
		abortConn(conn)
		return err
	}
	st.joined = conn
	st.sink = &sink{conn, raw}
	if st.recvDone { // the far side's end came before there was anybody to tell
		st.sink.closeWrite()
	}
	st.deliverLocked()
	s.mu.Unlock()

	err := st.pump(conn, chunks)
	if errors.Is(err, io.EOF) {
		if st.CloseWrite() == nil {
			<-st.recvEnded
		}
		err = nil
	} else {
		st.Reset(flow.CodeOf(err))
	}
	if failure := st.failure(); failure != nil {
		err = failure
	}
	s.mu.Lock()
	st.joined = nil
	s.mu.Unlock()
	if err != nil {
		abortConn(conn)
	} else {
		conn.Close()
	}
	return err
}

// pump queues what conn gives until it ends with io.EOF or fails.
func (st *Stream) pump(conn net.Conn, chunks *chunkReader) error {
	for {
		n, err := st.waitToSend()
		if err != nil {
			return err
		}
		var buf []byte
		if chunks != nil {
			buf, n, err = chunks.read(n)
		} else {
			buf = getBuffer(wire.DataOverhead + n)
			n, err = conn.Read(buf[wire.DataOverhead:])
			buf = shrink(buf, n)
		}
		if n > 0 {
			if err := st.enqueue(buf, n); err != nil {
				return err
			}
		} else if buf != nil {
			putBuffer(buf)
		}
		if err != nil {
			return err
		}
	}
}

// chunkReader reads an application's bytes into buffers that have room for a frame's header before them.
type chunkReader struct {
	raw  *rawio.Conn
	want int
	buf  []byte
}

// newChunkReader returns nil for both if conn has no descriptor.
func newChunkReader(conn net.Conn) (*rawio.Conn, *chunkReader) {
	r := &chunkReader{}
	r.raw = rawio.New(conn, func() []byte {
		r.buf = getBuffer(wire.DataOverhead + r.want)
		return r.buf[wire.DataOverhead:]
	}, func() {
		putBuffer(r.buf)
		r.buf = nil
	})
	if r.raw == nil {
		return nil, nil
	}
	return r.raw, r
}

// read waits until there is something to read and reads at most want bytes of it, behind room for a frame's header. The
// caller owns buf, which is nil on an error.
func (r *chunkReader) read(want int) (buf []byte, n int, err error) {
	r.want = want
	if n, err = r.raw.Read(); err != nil {
		return nil, 0, err
	}
	buf, r.buf = r.buf, nil
	return shrink(buf, n), n, nil
}

// shrink moves n bytes to a smaller buffer where that saves memory: a chunk is kept until it is acknowledged.
func shrink(buf []byte, n int) []byte {
	if n == 0 || (wire.DataOverhead+n)*2 > cap(buf) {
		return buf
	}
	small := getBuffer(wire.DataOverhead + n)
	copy(small[wire.DataOverhead:], buf[wire.DataOverhead:wire.DataOverhead+n])
	putBuffer(buf)
	return small
}
