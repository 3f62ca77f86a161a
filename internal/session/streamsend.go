package session

import (
	"os"
	"time"

	"github.com/godwit-vpn/godwit/internal/wire"
)

// A stream's sending half: what the application gives becomes chunks, as many as the far side's window, the links and
// memory have room for.

// waitToSend returns how many bytes may be queued now, waiting until that is at least one. The lock is not held.
func (st *Stream) waitToSend() (int, error) {
	s := st.s
	for {
		s.mu.Lock()
		switch {
		case st.err != nil:
			err := st.err
			s.mu.Unlock()
			return 0, err
		case st.finQueued:
			s.mu.Unlock()
			return 0, errStreamEnded
		}
		room := st.sendMax - min(st.sendOff, st.sendMax)
		if room > 0 && st.queued < streamQueue {
			if s.roomLocked() {
				n := min(int(min(room, wire.MaxChunk)), s.chunkLocked())
				s.mu.Unlock()
				return n, nil
			}
			if !st.waitsForMemory {
				st.waitsForMemory = true
				s.memWait.push(st)
				s.armLocked(time.Now().Add(memoryRetry))
			}
		}
		s.mu.Unlock()
		select {
		case <-st.sendReady:
		case <-st.writeDeadline.wait():
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// enqueue queues a chunk: the n bytes at buf[wire.DataOverhead:]. It owns buf from now on.
func (st *Stream) enqueue(buf []byte, n int) error {
	buf = buf[:wire.DataOverhead+n]
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.err != nil {
		putBuffer(buf)
		return st.err
	}
	wire.PutData(buf, st.id, st.sendOff)
	st.sendOff += uint64(n)
	st.queueFrameLocked(&frame{buf: buf, typ: wire.TypeData, stream: st})
	s.flushLocked()
	return nil
}

func (st *Stream) queueFrameLocked(f *frame) {
	st.s.charge(f)
	st.queue.push(f)
	st.queued += len(f.buf)
	st.queuedCost += f.cost()
	st.s.joinTurnLocked(st, len(f.buf))
}

// Write implements net.Conn: it returns when everything is queued.
func (st *Stream) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := st.waitToSend()
		if err != nil {
			return done, err
		}
		n = min(n, len(p)-done)
		buf := getBuffer(wire.DataOverhead + n)
		copy(buf[wire.DataOverhead:], p[done:done+n])
		if err := st.enqueue(buf, n); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// CloseWrite ends our direction after what is queued. It implements flow.Stream.
func (st *Stream) CloseWrite() error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	st.closeWriteLocked()
	s.flushLocked()
	return nil
}

func (st *Stream) closeWriteLocked() {
	if st.finQueued {
		return
	}
	st.finQueued = true
	st.queueFrameLocked(&frame{
		buf: wire.AppendFin(nil, wire.Mark{Stream: st.id, Offset: st.sendOff}), typ: wire.TypeFin, stream: st})
	st.wakeSendLocked()
}

// Close ends our direction and takes nothing more: bytes that still arrive reset the stream. It implements net.Conn.
func (st *Stream) Close() error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.closed || st.err != nil {
		return nil
	}
	st.closed = true
	st.closeWriteLocked()
	if !st.recvDone && (len(st.segments) > 0 || st.recvOff < st.granted && st.sendDone) {
		// There is something the application will never read.
		st.dropReceivedLocked()
	}
	st.wakeReadLocked()
	s.flushLocked()
	return nil
}
