package session

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// inlineBatches is how many batches a stream's own goroutine writes before it leaves the rest to the link's writer.
	inlineBatches = 4
	// batchBytes is about the most that is written at once.
	batchBytes = 64 << 10
	// smallFrame is the longest frame that is copied next to its neighbours rather than written by itself.
	smallFrame = 4 << 10
)

func newControl(buf []byte) *frame { return &frame{buf: buf, typ: wire.Type(buf[0])} }

// queueLocked puts a numbered frame of the session, or of a stream's control, in line.
func (s *Session) queueLocked(f *frame) {
	if s.err != nil {
		return
	}
	s.charge(f)
	s.control.push(f)
	if s.held > MaxSessionMemory+4<<20 { // a far side that acknowledges nothing and makes us answer
		s.endLocked(errMemory)
	}
}

// pickLocked chooses the link for what is queued: for bulk, one that carries bulk; for all else the one with the least on
// its way. It is nil if the one it should be is being written to at this moment, since whoever does that will take it,
// and if none has room. Links that the far side has not answered on yet serve only when there is no other, suspected ones
// only when there are none of those either.
func (s *Session) pickLocked(bulk bool) *Link {
	var pick *Link
	main, free := s.rolesLocked()
	for _, l := range s.links {
		if l.dead || l.draining || l.waiting || l.standing() != main.standing() || bulk && !l.carriesBulkLocked(main, free) {
			continue
		}
		if pick == nil || l.inFlight < pick.inFlight || l.inFlight == pick.inFlight && l.rtt.smoothed < pick.rtt.smoothed {
			pick = l
		}
	}
	if pick != nil && pick.busy {
		return nil
	}
	return pick
}

// urgentLocked reports whether anything but bulk waits for a link.
func (s *Session) urgentLocked() bool {
	return s.resend.len() > 0 || s.control.len() > 0 || s.packets.len() > 0 || !s.fresh.empty()
}

// eachPickLocked calls f for the links that should send what is queued.
func (s *Session) eachPickLocked(f func(*Link)) {
	if s.urgentLocked() {
		if l := s.pickLocked(false); l != nil {
			f(l)
		}
	}
	if !s.backlog.empty() {
		if l := s.pickLocked(true); l != nil {
			f(l)
		}
	}
}

// kickLocked makes links' writers send what is queued. Readers and timers call it.
func (s *Session) kickLocked() { s.eachPickLocked((*Link).kickLocked) }

// kickLocked starts the link's writer if it may write and nobody does.
func (l *Link) kickLocked() {
	if !l.busy && !l.dead && !l.waiting {
		l.busy = true
		l.handOver()
	}
}

// handOver goes on with flushLocked on a goroutine of its own.
func (l *Link) handOver() {
	go func() {
		l.s.mu.Lock()
		l.flushLocked(false)
		l.s.mu.Unlock()
	}()
}

// flushLocked sends what is queued, from the calling goroutine where that cannot be held up.
func (s *Session) flushLocked() {
	s.eachPickLocked(func(l *Link) {
		if l.nonBlocking == nil {
			l.kickLocked()
			return
		}
		l.busy = true
		l.flushLocked(true)
	})
}

// flushLocked writes batches until nothing is left for this link or it takes no more; the caller has set busy. The lock
// is released while bytes are written. An inline caller leaves the rest to a goroutine after a few batches.
func (l *Link) flushLocked(inline bool) {
	s := l.s
	b := batchPool.Get().(*batch)
	defer batchPool.Put(b)
	for n := 0; !l.dead; n++ {
		if inline && n == inlineBatches {
			l.handOver()
			return
		}
		b.reset()
		b.laned = l.laned != nil
		l.fillLocked(b, time.Now())
		if b.size == 0 {
			break
		}
		if l.nonBlocking == nil { // a write that may wait is taken for one that does
			l.waitLocked()
			s.kickLocked() // what is left may go elsewhere meanwhile
		}
		s.mu.Unlock()
		b.seal()
		s.cfg.Turn.enter()
		if l.nonBlocking == nil { // everyone would wait for a far side that takes nothing: as many of them, and all stand still
			s.cfg.Turn.leave(b.size)
		}
		err := l.write(b)
		if l.nonBlocking != nil {
			s.cfg.Turn.leave(b.size)
		}
		s.mu.Lock()
		l.waiting = false
		for _, f := range b.frames {
			f.writing--
			s.releaseLocked(f)
		}
		l.sent += uint64(b.size)
		s.count.sent += uint64(b.size)
		if err != nil {
			l.failLocked(fmt.Errorf("writing: %w", err))
			break
		}
		if l.nonBlocking != nil && l.nonBlocking.Backlog() {
			l.waitLocked() // until onDrained, which needs the lock
			l.path.full = true
			s.kickLocked() // another link may have room
			break
		}
	}
	b.reset()
	l.busy = false
}

// write writes a batch. The lock is not held.
func (l *Link) write(b *batch) error {
	if l.laned != nil {
		return l.laned.WriteLanes(b.out, b.lanes)
	}
	return transport.WriteBatch(l.conn, b.out)
}

// fillLocked takes what the link should send next, and gives what is small on a young link a length that is nothing's own.
func (l *Link) fillLocked(b *batch, now time.Time) {
	l.takeNextLocked(b, now)
	if b.size > 0 && b.size < smallWrite && l.disguised < disguises && now.Sub(l.born) < young && !l.scarce {
		l.disguised++
		n := wire.HeaderLen + rand.IntN(smallWrite)
		b.small = wire.AppendPadding(b.small, n)
		b.size += n
		b.closeSmall(0)
	}
}

const (
	// smallWrite is what acknowledgements and pings are shorter than. They are all of a length: firewalls know tunnels by many
	// such in the first packets of a connection (Xue et al., USENIX Security 2022, section 5.2).
	smallWrite = 96
	// disguises is how many of a link's small writes are of various lengths, in its first time: beyond some fifty packets nobody
	// counts them.
	disguises = 48
	young     = time.Minute
)

// takeNextLocked takes first what keeps the session going, then the small and urgent, then streams in turn.
func (l *Link) takeNextLocked(b *batch, now time.Time) {
	s := l.s
	if len(l.outbox) > 0 {
		b.copy(l.outbox, 0)
		l.outbox = l.outbox[:0]
	}
	if l.unacked > 0 || l.ackNow {
		l.appendAckLocked(b, now)
	}
	main, free := s.rolesLocked()
	if l.draining || main != nil && l.standing() > main.standing() {
		return
	}
	most := l.batchLocked()
	for l.confirmed && s.resend.len() > 0 && b.size < most {
		f := s.resend.pop()
		f.waiting = false
		if f.acked {
			s.releaseLocked(f)
			continue
		}
		if f.typ == wire.TypeData && f.stream != nil && f.stream.err != nil {
			s.voidLocked(f)
		}
		s.count.resent += uint64(len(f.buf))
		l.takeLocked(f, b, now)
	}
	for s.control.len() > 0 && b.size < most {
		f := s.control.pop()
		if st := f.stream; st != nil && st.windowFrame == f {
			st.windowFrame = nil // from now on it cannot be changed any more
		}
		s.ring.push(f)
		l.takeLocked(f, b, now)
	}
	for s.packets.len() > 0 && b.size < most {
		if p := s.packets.pop(now, &s.count); p != nil {
			b.small = wire.AppendPacket(b.small, p)
			b.size += len(p) + wire.HeaderLen
			b.closeSmall(transport.LaneLoose)
		}
	}
	bulk := main == nil || l.carriesBulkLocked(main, free)
	for b.size < most {
		f := s.nextChunkLocked(bulk)
		if f == nil {
			break
		}
		s.ring.push(f)
		l.takeLocked(f, b, now)
		if s.shaper != nil {
			b.begins(f)
		}
	}
	if s.shaper != nil {
		l.shapeLocked(b, now)
	}
}

// takeLocked gives a numbered frame to the link.
func (l *Link) takeLocked(f *frame, b *batch, now time.Time) {
	if !l.awaitsLocked() {
		l.lastAck = now
		l.s.armLocked(now.Add(l.patience()))
	}
	if l.frames == 0 {
		l.busySince = now
	}
	f.link, f.sentAt = l, now
	f.sends++
	f.writing++
	if len(f.buf) <= urgentFrame && l.inFlight > urgentBehind {
		l.sendTwiceLocked(f)
	}
	l.inFlight += len(f.buf)
	l.frames++
	b.add(f)
}

const (
	// urgentFrame is the longest frame that is worth sending twice: a keystroke, an OPEN, a WINDOW.
	urgentFrame = 512
	// urgentBehind is how much a link must have on its way for that: whatever is lost of it holds up all behind it.
	urgentBehind = 32 << 10
	// maxOutbox bounds what waits beside a link's own frames.
	maxOutbox = 4 << 10
)

// sendTwiceLocked sends a small frame on another link too, since this one has so much on its way that a loss would hold
// it up for a round trip or more. The far side counts it once, whichever comes first.
func (l *Link) sendTwiceLocked(f *frame) {
	var other *Link
	for _, o := range l.s.links {
		if o != l && !o.dead && !o.draining && o.standing() <= 1 && len(o.outbox) < maxOutbox &&
			(other == nil || o.inFlight < other.inFlight) {
			other = o
		}
	}
	if other != nil {
		other.outbox = append(other.outbox, f.buf...)
		l.s.count.twice += uint64(len(f.buf))
		other.kickLocked()
	}
}

func (l *Link) appendAckLocked(b *batch, now time.Time) {
	s := l.s
	a := wire.Ack{Next: s.seen.next, Echo: l.echo, Ranges: s.seen.ranges}
	if l.echo > 0 {
		a.Delay = uint32(min(now.Sub(l.echoAt).Microseconds(), 1<<32-1))
	}
	at := len(b.small)
	b.small = wire.AppendAck(b.small, a)
	b.size += len(b.small) - at
	b.closeSmall(0)
	l.unacked, l.ackNow, l.ackAt = 0, false, time.Time{}
}

// batch collects frames for one write: small ones side by side in one buffer, large ones as they are.
type batch struct {
	frames []*frame
	size   int
	out    [][]byte
	lanes  []uint32 // by which each of out goes, where the link has lanes
	laned  bool
	small  []byte
	nth    int     // of the youngest stream's pieces in it, plus one; zero if there is no stream's beginning
	pieces []piece // in order: a stretch of small, or a large frame
}

type piece struct {
	from, to int // of small, when large is nil
	large    []byte
	lane     uint32
}

var batchPool = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) reset() {
	clear(b.frames)
	clear(b.out)
	clear(b.pieces)
	b.frames, b.out, b.lanes, b.pieces, b.small = b.frames[:0], b.out[:0], b.lanes[:0], b.pieces[:0], b.small[:0]
	b.size, b.nth = 0, 0
}

// copy adds bytes that are copied.
func (b *batch) copy(p []byte, lane uint32) {
	b.small = append(b.small, p...)
	b.size += len(p)
	b.closeSmall(lane)
}

// closeSmall makes the bytes appended to small since the last call part of the last piece, or one of their own if that goes
// by another lane.
func (b *batch) closeSmall(lane uint32) {
	if !b.laned {
		lane = 0
	}
	if n := len(b.pieces); n > 0 && b.pieces[n-1].large == nil && b.pieces[n-1].lane == lane {
		b.pieces[n-1].to = len(b.small)
		return
	}
	from := 0
	for i := len(b.pieces) - 1; i >= 0; i-- {
		if b.pieces[i].large == nil {
			from = b.pieces[i].to
			break
		}
	}
	b.pieces = append(b.pieces, piece{from: from, to: len(b.small), lane: lane})
}

func (b *batch) add(f *frame) {
	b.frames = append(b.frames, f)
	if len(f.buf) <= smallFrame {
		b.copy(f.buf, f.lane())
		return
	}
	b.pieces = append(b.pieces, piece{large: f.buf, lane: f.lane()})
	b.size += len(f.buf)
}

// lane is by which a frame goes: a stream's chunks have one of their own, so that no stream waits for what another has lost;
// lane 0 is the session's.
func (f *frame) lane() uint32 {
	if f.typ == wire.TypeData && f.stream != nil {
		return f.stream.id + 1
	}
	return 0
}

// seal makes out from the pieces, once small no longer moves.
func (b *batch) seal() {
	for _, p := range b.pieces {
		if p.large != nil {
			b.out = append(b.out, p.large)
		} else {
			b.out = append(b.out, b.small[p.from:p.to])
		}
		b.lanes = append(b.lanes, p.lane)
	}
}
