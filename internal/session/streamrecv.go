package session

import (
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// A stream's receiving half: chunks that arrive in any order are put together, passed on, and make room for more.

// segment is a stretch of bytes that arrived and was not yet delivered.
type segment struct {
	off  uint64
	data []byte // within buf
	buf  []byte
}

func (g segment) end() uint64 { return g.off + uint64(len(g.data)) }

// dataLocked takes a chunk. The session's lock is released while bytes are written to the application.
func (st *Stream) dataLocked(d wire.Data) error {
	s := st.s
	end := d.Offset + uint64(len(d.Payload))
	if end > st.granted || st.finKnown && end > st.finOff {
		return wireError("chunk ends at %d beyond the %d allowed", end, st.granted)
	}
	if st.err != nil || st.recvDone {
		return nil
	}
	if st.closed {
		st.dropReceivedLocked()
		return nil
	}
	had := max(st.recvOff, st.handed)
	if end <= had {
		return nil
	}
	if d.Offset < had {
		d.Payload = d.Payload[had-d.Offset:]
		d.Offset = had
	}
	if d.Offset == st.recvOff && st.sink != nil && !st.delivering && len(st.segments) == 0 {
		st.delivering, st.handed = true, end
		s.mu.Unlock()
		n, err := st.sink.tryWrite(d.Payload)
		s.mu.Lock()
		st.delivering = false
		if st.err != nil {
			return nil
		}
		if err != nil {
			st.resetLocked(flow.CodeReset)
			s.kickLocked()
			return nil
		}
		st.consumedLocked(n)
		st.handed = st.recvOff
		d.Payload = d.Payload[n:]
		d.Offset += uint64(n)
	}
	if len(d.Payload) > 0 {
		st.insertLocked(d)
	}
	st.deliverLocked()
	return nil
}

// insertLocked copies what is new of a chunk into the segments. Chunks overlap where one was cut smaller to be sent again.
func (st *Stream) insertLocked(d wire.Data) {
	i := len(st.segments)
	for i > 0 && st.segments[i-1].end() > d.Offset {
		i--
	}
	for ; len(d.Payload) > 0; i++ {
		n := len(d.Payload)
		if i < len(st.segments) {
			next := st.segments[i]
			if next.off <= d.Offset {
				n = int(min(next.end()-d.Offset, uint64(n)))
				d.Offset, d.Payload = d.Offset+uint64(n), d.Payload[n:]
				continue
			}
			n = int(min(next.off-d.Offset, uint64(n)))
		}
		buf := getBuffer(n)
		copy(buf, d.Payload)
		st.segments = slices.Insert(st.segments, i, segment{d.Offset, buf, buf})
		st.reassembly += cap(buf)
		st.s.reassembly += cap(buf)
		st.s.cfg.Pool.charge(cap(buf))
		d.Offset, d.Payload = d.Offset+uint64(n), d.Payload[n:]
	}
	switch {
	case len(st.segments) > maxSegments:
		st.resetLocked(flow.CodeMemory)
		st.s.kickLocked()
	case st.s.reassembly+st.s.held > MaxSessionMemory:
		st.s.overfullLocked()
	}
}

// maxSegments bounds how many stretches of a stream wait apart from each other: twice as many as small chunks fill the
// widest window. A far side that leaves more is not one of ours.
const maxSegments = 2 * maxWindow / smallChunk

func (st *Stream) dropSegmentLocked(seg segment) {
	st.reassembly -= cap(seg.buf)
	st.s.reassembly -= cap(seg.buf)
	st.s.cfg.Pool.charge(-cap(seg.buf))
	putBuffer(seg.buf)
}

// overfullLocked resets the stream whose reader has left most bytes lying: windows promise more than the memory holds,
// since most readers keep up.
func (s *Session) overfullLocked() {
	var worst *Stream
	for _, st := range s.streams {
		if worst == nil || st.reassembly > worst.reassembly {
			worst = st
		}
	}
	if worst != nil && worst.reassembly > 0 {
		worst.resetLocked(flow.CodeMemory)
	}
}

// deliverLocked passes on what has become contiguous, and the end.
func (st *Stream) deliverLocked() {
	if len(st.segments) > 0 && st.segments[0].off == st.recvOff {
		if st.sink == nil {
			st.wakeReadLocked()
		} else if !st.delivering {
			st.delivering = true
			go st.drain()
		}
		return
	}
	if st.finKnown && st.recvOff == st.finOff && !st.recvDone && !st.delivering {
		if st.sink != nil {
			st.sink.closeWrite()
		}
		st.receivedAllLocked()
		st.wakeReadLocked()
		st.finishLocked()
	}
}

// drain writes contiguous segments to the sink, waiting for it, until there is none. delivering is set.
func (st *Stream) drain() {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for st.err == nil && len(st.segments) > 0 && st.segments[0].off == st.recvOff {
		seg := st.segments[0]
		st.segments = st.segments[1:]
		st.handed = seg.end()
		st.reassembly -= cap(seg.buf) // it stays charged to the session until it is written
		s.mu.Unlock()
		_, err := st.sink.conn.Write(seg.data)
		s.mu.Lock()
		st.reassembly += cap(seg.buf)
		st.dropSegmentLocked(seg)
		if err != nil {
			st.delivering = false
			st.resetLocked(flow.CodeReset)
			s.kickLocked()
			return
		}
		st.consumedLocked(len(seg.data))
	}
	st.delivering = false
	s.wakeMemoryLocked()
	if st.err == nil {
		st.deliverLocked()
	}
}

// leastEpoch is the shortest time over which the application's taking is measured. On a path of microseconds it is the two
// machines' schedulers that a window must outlast.
const leastEpoch = 5 * time.Millisecond

// minWindowStep is the least by which a window that has room for it twice is opened again.
const minWindowStep = 128 << 10

// consumedLocked notes that the application took n bytes. The window is kept four times as wide as what is taken in a
// round trip, eight times while that grows, so that a sender that doubles its rate each round trip (slow start) is not
// held up by it. It is opened again when an eighth of it is used: what is used up meanwhile the sender lacks.
func (st *Stream) consumedLocked(n int) {
	s := st.s
	st.recvOff += uint64(n)
	if st.finKnown {
		return
	}
	now := time.Now()
	st.taken += n
	widen := false
	if d, rtt := now.Sub(st.epoch), max(s.roundTripLocked(), leastEpoch); d >= rtt {
		// What was taken in a longer time counts for less: a stream that rests and starts again has not become faster.
		taken := int(float64(st.taken) * float64(rtt) / float64(d))
		want := 4 * taken
		if taken > st.lastTaken*3/2 {
			want = 8 * taken
		}
		want = max(min(max(want, s.cfg.Window), s.windowLimitLocked()), minWindow)
		widen = want > st.window
		st.window = want
		st.epoch, st.taken, st.lastTaken = now, 0, taken
	}
	if used := st.window - int(st.granted-st.recvOff); !widen && used < max(st.window/8, min(st.window/2, minWindowStep)) {
		return
	}
	if g := st.recvOff + uint64(st.window); g > st.granted {
		st.granted = g
		st.grantLocked()
	}
}

// windowLimitLocked is how wide one stream's window may be: four times the memory that is free, so that streams whose
// readers stall leave room for others (dynamic thresholds, Choudhury and Hahne 1998).
func (s *Session) windowLimitLocked() int {
	free := min(MaxSessionMemory-s.held-s.reassembly, s.cfg.Pool.free())
	return min(max(4*free, 0), maxWindow)
}

// grantLocked queues a WINDOW, or changes the one that still waits.
func (st *Stream) grantLocked() {
	b := wire.AppendWindow(nil, wire.Mark{Stream: st.id, Offset: st.granted})
	if st.windowFrame != nil {
		copy(st.windowFrame.buf, b)
		return
	}
	f := newControl(b)
	f.stream = st
	st.windowFrame = f
	st.s.queueLocked(f)
	st.s.kickLocked()
}

// rttLocked is the best link's round trip, as it is with what waits on the way.
func (s *Session) rttLocked() time.Duration {
	return s.bestLocked(func(e *rttEstimate) time.Duration { return e.smoothed })
}

// roundTripLocked is the best link's round trip without that.
func (s *Session) roundTripLocked() time.Duration {
	return s.bestLocked(func(e *rttEstimate) time.Duration { return e.least })
}

func (s *Session) bestLocked(of func(*rttEstimate) time.Duration) time.Duration {
	best := time.Duration(0)
	for _, l := range s.links {
		if d := of(&l.rtt); !l.suspected && (best == 0 || d < best) {
			best = d
		}
	}
	if best == 0 {
		return firstRTT
	}
	return best
}

// finLocked handles a FIN.
func (st *Stream) finLocked(off uint64) error {
	if st.finKnown && off != st.finOff || off < st.recvOff || off > st.granted {
		return wireError("FIN at %d", off)
	}
	if n := len(st.segments); n > 0 && st.segments[n-1].end() > off {
		return wireError("FIN at %d before bytes that came", off)
	}
	st.finKnown, st.finOff = true, off
	if st.closed && st.recvOff == off {
		st.receivedAllLocked()
		st.finishLocked()
		return nil
	}
	if st.err == nil {
		st.deliverLocked()
	}
	return nil
}

// dropReceivedLocked refuses what a closed application would have had to read: it resets the stream once all of ours
// has gone out.
func (st *Stream) dropReceivedLocked() {
	for _, seg := range st.segments {
		st.dropSegmentLocked(seg)
	}
	st.segments = nil
	if st.sendDone {
		st.resetLocked(flow.CodeReset)
		st.s.kickLocked()
	}
}

// Read implements net.Conn.
func (st *Stream) Read(p []byte) (int, error) {
	s := st.s
	for {
		s.mu.Lock()
		switch {
		case st.err != nil:
			err := st.err
			s.mu.Unlock()
			return 0, err
		case st.closed:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case len(st.segments) > 0 && st.segments[0].off == st.recvOff:
			n := st.takeLocked(p)
			s.mu.Unlock()
			return n, nil
		case st.recvDone:
			s.mu.Unlock()
			return 0, io.EOF
		case len(p) == 0:
			s.mu.Unlock()
			return 0, nil
		}
		s.mu.Unlock()
		select {
		case <-st.readReady:
		case <-st.readDeadline.wait():
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// takeLocked copies contiguous bytes to p.
func (st *Stream) takeLocked(p []byte) int {
	n := 0
	for n < len(p) && len(st.segments) > 0 && st.segments[0].off == st.recvOff {
		seg := &st.segments[0]
		m := copy(p[n:], seg.data)
		n += m
		seg.data = seg.data[m:]
		seg.off += uint64(m)
		if len(seg.data) == 0 {
			st.dropSegmentLocked(*seg)
			st.segments = st.segments[1:]
		}
		st.consumedLocked(m)
	}
	st.s.wakeMemoryLocked()
	if len(st.segments) == 0 || st.segments[0].off != st.recvOff {
		st.deliverLocked() // the end may have come
	} else {
		st.wakeReadLocked()
	}
	return n
}
