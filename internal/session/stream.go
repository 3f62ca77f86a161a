package session

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// streamQueue is how many bytes of one stream may wait for a link.
	streamQueue = 128 << 10
	// minWindow is the smallest receive window of a stream when memory is short.
	minWindow = 16 << 10
	// maxWindow is the largest receive window of one stream.
	maxWindow = MaxSessionMemory / 5 * 4
)

// Stream is one TCP conversation. It implements flow.Stream.
//
//	              Open/OPEN                FIN both ways, delivered
//	(nothing) ───────────────> open ────────────────────────────────> ended
//	                             └── RESET, from either side ──────────┘
type Stream struct {
	s      *Session
	id     uint32
	target flow.Target

	// All below is guarded by s.mu.

	err      error         // why it was reset, or could not be opened
	answered chan struct{} // closed by OPENED or the stream's failure
	isOpen   bool          // OPENED has come or gone

	// Sending.
	queue          fifo[*frame]
	queued         int // bytes in queue
	queuedCost     int
	sendOff        uint64 // bytes taken from the application
	sendMax        uint64 // bytes the far side takes
	finQueued      bool
	sendDone       bool // FIN was given to a link, or the stream was reset
	deficit        int
	turn           turn
	sendReady      chan struct{} // holds one token, so that a wake-up is not lost and nobody waits to give it
	waitsForMemory bool

	// Receiving.
	segments    []segment // in order, apart; the first begins at recvOff or later
	reassembly  int       // bytes of memory they hold
	recvOff     uint64    // all below was taken from here
	granted     uint64    // the far side may send below this
	window      int
	epoch       time.Time // since when taken counts
	taken       int       // bytes the application took since epoch
	lastTaken   int       // in the round trip before
	finOff      uint64
	finKnown    bool
	recvDone    bool   // the application has all, or wants no more
	delivering  bool   // someone writes to sink, or drains to it
	sink        *sink  // where Join puts what arrives
	windowFrame *frame // a queued WINDOW that can still be changed
	readReady   chan struct{}
	closed      bool // Close was called
	joined      net.Conn
	recvEnded   chan struct{} // closed when recvDone becomes true

	readDeadline, writeDeadline deadline
}

// segment is a stretch of bytes that arrived and was not yet delivered.
type segment struct {
	off  uint64
	data []byte // within buf
	buf  []byte
}

var _ flow.Stream = (*Stream)(nil)

func (s *Session) newStreamLocked(id uint32) *Stream {
	st := &Stream{
		s: s, id: id,
		answered:  make(chan struct{}),
		sendReady: make(chan struct{}, 1),
		readReady: make(chan struct{}, 1),
		recvEnded: make(chan struct{}),
		window:    s.cfg.Window,
		granted:   uint64(s.cfg.Window),
		epoch:     time.Now(),
	}
	s.streams[id] = st
	return st
}

// failure returns why the stream failed, nil if it did not.
func (st *Stream) failure() error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	return st.err
}

// Answer tells the far side how the dial went (gateway only): nil opens the stream, anything else ends it.
func (st *Stream) Answer(err error) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.isOpen || st.err != nil {
		return
	}
	st.isOpen = true
	close(st.answered)
	code := flow.CodeOf(err)
	s.queueLocked(newControl(wire.AppendOpened(nil, wire.Opened{Stream: st.id, Code: code, Window: uint32(st.window)})))
	if code != flow.CodeNone {
		st.abortLocked(&flow.Error{Code: code})
	}
	s.flushLocked()
}

// openedLocked handles the gateway's answer.
func (st *Stream) openedLocked(o wire.Opened) {
	if st.isOpen || st.err != nil {
		return
	}
	if o.Code != flow.CodeNone {
		st.abortLocked(&flow.Error{Code: o.Code})
		return
	}
	st.isOpen = true
	close(st.answered)
	if uint64(o.Window) > st.sendMax {
		st.sendMax = uint64(o.Window)
		st.wakeSendLocked()
	}
}

// Answered is closed when the stream was answered or has failed. At a gateway that has not answered, it tells that the
// stream was given up.
func (st *Stream) Answered() <-chan struct{} { return st.answered }

// Target is where the stream goes (client only).
func (st *Stream) Target() flow.Target { return st.target }

// Reset aborts the stream both ways. It implements flow.Stream.
func (st *Stream) Reset(code flow.Code) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st.resetLocked(code)
	s.flushLocked()
}

func (st *Stream) resetLocked(code flow.Code) {
	if st.err != nil || st.sendDone && st.recvDone || st.s.err != nil {
		return
	}
	st.s.queueLocked(newControl(wire.AppendReset(nil, wire.Reset{Stream: st.id, Code: code})))
	if code == flow.CodeNone {
		code = flow.CodeReset
	}
	st.abortLocked(&flow.Error{Code: code})
}

// abortLocked ends the stream here, without telling the far side.
func (st *Stream) abortLocked(err error) {
	if st.err != nil {
		return
	}
	st.failLocked(err)
	st.finishLocked()
}

// failLocked drops what the stream holds and wakes everyone who waits for it.
func (st *Stream) failLocked(err error) {
	if st.err != nil {
		return
	}
	s := st.s
	st.err = err
	if !st.isOpen {
		st.isOpen = true
		close(st.answered)
	}
	for st.queue.len() > 0 {
		f := st.queue.pop()
		f.acked = true
		s.releaseLocked(f)
	}
	st.queued, st.queuedCost = 0, 0
	s.leaveTurnLocked(st)
	for _, seg := range st.segments {
		st.dropSegmentLocked(seg)
	}
	st.segments = nil
	st.sendDone = true
	st.receivedAllLocked()
	if st.joined != nil {
		go abortConn(st.joined)
	}
	st.wakeSendLocked()
	st.wakeReadLocked()
}

// receivedAllLocked notes that nothing more is to be delivered.
func (st *Stream) receivedAllLocked() {
	if !st.recvDone {
		st.recvDone = true
		close(st.recvEnded)
	}
}

// finishLocked forgets the stream once both directions are done. A gateway keeps one whose OPEN has not come yet, so
// that it is not taken for new.
func (st *Stream) finishLocked() {
	if st.sendDone && st.recvDone && (st.s.cfg.Role == Client || st.s.opened.has(uint64(st.id/2))) {
		delete(st.s.streams, st.id)
	}
}

func (st *Stream) wakeSendLocked() {
	select {
	case st.sendReady <- struct{}{}:
	default:
	}
}

func (st *Stream) wakeReadLocked() {
	select {
	case st.readReady <- struct{}{}:
	default:
	}
}

// --- sending ---

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
	st.s.joinTurnLocked(st)
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

// --- receiving ---

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
	if end <= st.recvOff {
		return nil
	}
	if d.Offset < st.recvOff {
		d.Payload = d.Payload[st.recvOff-d.Offset:]
		d.Offset = st.recvOff
	}
	if d.Offset == st.recvOff && st.sink != nil && !st.delivering && len(st.segments) == 0 {
		st.delivering = true
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
		d.Payload = d.Payload[n:]
		d.Offset += uint64(n)
	}
	if len(d.Payload) > 0 {
		st.insertLocked(d)
	}
	st.deliverLocked()
	return nil
}

// insertLocked copies a chunk into the segments. Chunks never overlap in part: each has its own number and bytes.
func (st *Stream) insertLocked(d wire.Data) {
	i := len(st.segments)
	for i > 0 && st.segments[i-1].off > d.Offset {
		i--
	}
	buf := getBuffer(len(d.Payload))
	copy(buf, d.Payload)
	st.segments = slices.Insert(st.segments, i, segment{d.Offset, buf, buf})
	st.reassembly += cap(buf)
	st.s.reassembly += cap(buf)
	st.s.cfg.Pool.charge(cap(buf))
	if st.s.reassembly+st.s.held > MaxSessionMemory {
		st.s.overfullLocked()
	}
}

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

// consumedLocked notes that the application took n bytes. The window is kept four times as wide as what is taken in a
// round trip, eight times while that grows, so that a sender that doubles its rate each round trip (slow start) is not
// held up by it; and it is opened again when half of it is used.
func (st *Stream) consumedLocked(n int) {
	s := st.s
	st.recvOff += uint64(n)
	if st.finKnown {
		return
	}
	now := time.Now()
	st.taken += n
	widen := false
	if d, rtt := now.Sub(st.epoch), s.roundTripLocked(); d >= rtt {
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
	if !widen && int(st.granted-st.recvOff) > st.window/2 {
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
	if n := len(st.segments); n > 0 && st.segments[n-1].off+uint64(len(st.segments[n-1].data)) > off {
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

// LocalAddr and RemoteAddr have nothing truthful to say: the stream's ends are elsewhere.
func (st *Stream) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr implements net.Conn; see LocalAddr.
func (st *Stream) RemoteAddr() net.Addr { return streamAddr{} }

type streamAddr struct{}

func (streamAddr) Network() string { return "godwit" }
func (streamAddr) String() string  { return "stream" }

// SetDeadline implements net.Conn.
func (st *Stream) SetDeadline(t time.Time) error {
	st.readDeadline.set(t)
	st.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (st *Stream) SetReadDeadline(t time.Time) error { st.readDeadline.set(t); return nil }

// SetWriteDeadline implements net.Conn.
func (st *Stream) SetWriteDeadline(t time.Time) error { st.writeDeadline.set(t); return nil }

// deadline closes a channel at a time that may be moved. The zero value never does.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // it fired, or is about to
	}
	d.timer = nil
	closed := false
	if d.passed != nil {
		select {
		case <-d.passed:
			closed = true
		default:
		}
	}
	if d.passed == nil || closed {
		d.passed = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	passed := d.passed
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(passed) })
	} else {
		close(passed)
	}
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed == nil {
		d.passed = make(chan struct{})
	}
	return d.passed
}
