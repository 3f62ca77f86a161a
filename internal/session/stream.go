package session

import (
	"net"
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
	failed   func()        // called when err is set
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
	burst          int // bytes queued since burstAt
	lastBurst      int // in the time before
	burstAt        time.Time
	sendReady      chan struct{} // holds one token, so that a wake-up is not lost and nobody waits to give it
	waitsForMemory bool

	// Receiving.
	segments    []segment // in order, apart; the first begins at recvOff or later
	reassembly  int       // bytes of memory they hold
	recvOff     uint64    // all below was taken from here
	handed      uint64    // all below is being written to the application, if that is more
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

	begun beginning // what was shaped of it

	readDeadline, writeDeadline deadline
}

var _ flow.Stream = (*Stream)(nil)

// firstWindowLocked is the window that a client opens a stream with: a page's worth, so that it comes in one round trip
// on a long path, as long as memory is free.
func (s *Session) firstWindowLocked() int {
	free := min(MaxSessionMemory-s.held-s.reassembly, s.cfg.Pool.free())
	return min(max(free/24, s.cfg.Window), 4*s.cfg.Window)
}

func (s *Session) newStreamLocked(id uint32, window int) *Stream {
	st := &Stream{
		s: s, id: id,
		answered:  make(chan struct{}),
		sendReady: make(chan struct{}, 1),
		readReady: make(chan struct{}, 1),
		recvEnded: make(chan struct{}),
		window:    window,
		granted:   uint64(window),
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
	} else if st.heardLocked() && s.holdLocked() { // the application has not waited for the answer
		return
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

// OnFailure has f called when the stream fails, at once if it has: it was reset, given up, or its session has ended. f must
// not block and must not call back into the session.
func (st *Stream) OnFailure(f func()) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.failed = f; st.err != nil {
		f()
	}
}

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
	if st.failed != nil {
		st.failed()
	}
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
