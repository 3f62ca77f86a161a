package session

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/godwit-vpn/godwit/internal/wire"
)

// A link's readers: one for the connection and one for each lane of it. They take frames off, and recv.go handles them.

// takeLanes has the connection's lanes read, if it has any. Nothing may come by them before the handshake is done.
func (l *Link) takeLanes() {
	if l.laned != nil {
		l.laned.OnLane(func(lane io.Reader) {
			if err := l.readFrames(lane); !errors.Is(err, io.EOF) {
				l.fail(err)
			}
		})
	}
}

// read is the link's reader: it takes frames off the connection until that ends.
func (l *Link) read() {
	defer close(l.readDone)
	l.fail(l.readFrames(l.conn))
}

// readFrames takes frames off r until that ends. It never writes to any link.
func (l *Link) readFrames(r io.Reader) error {
	var idle [512]byte // an idle link holds this much and no more
	var big []byte     // what was read and not yet handled is big[:have]
	defer func() {
		if big != nil {
			putReadBuffer(big)
		}
	}()
	have := 0
	for {
		into := idle[:]
		if big != nil {
			into = big[have:]
		}
		n, err := r.Read(into)
		if n > 0 {
			if big == nil {
				big = getReadBuffer()
				copy(big, idle[:n])
			}
			have += n
			used, err := l.handle(big[:have])
			if err != nil {
				return err
			}
			have = copy(big, big[used:have])
			if have == 0 && n < 16384 {
				putReadBuffer(big)
				big = nil
			}
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
}

const readBufferSize = 2 * wire.MaxFrame // a partial frame, and a whole one behind it

var readBuffers = sync.Pool{New: func() any { b := make([]byte, readBufferSize); return &b }}

func getReadBuffer() []byte  { return *readBuffers.Get().(*[]byte) }
func putReadBuffer(b []byte) { b = b[:readBufferSize]; readBuffers.Put(&b) }

// handle handles the whole frames at the start of b and returns how many bytes they were.
func (l *Link) handle(b []byte) (used int, err error) {
	for len(b)-used >= wire.HeaderLen {
		t, n, err := wire.ParseHeader(b[used:])
		if err != nil {
			return used, err
		}
		if len(b)-used < wire.HeaderLen+n {
			break
		}
		body := b[used+wire.HeaderLen : used+wire.HeaderLen+n]
		used += wire.HeaderLen + n
		if err := l.frame(t, body); err != nil {
			return used, err
		}
	}
	return used, nil
}
