package session

import (
	"fmt"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// maxGaps bounds the ranges in the set of numbers seen: a far side that leaves more gaps is not one of ours.
const maxGaps = 8192

// frame handles one frame of the link. An error ends the link.
func (l *Link) frame(t wire.Type, body []byte) error {
	s := l.s
	now := time.Now()
	size := len(body) + wire.HeaderLen
	if l.opt.Handshake != nil {
		next, err := l.opt.Handshake(t, body)
		if err != nil {
			return err
		}
		l.opt.Handshake = nil
		s.mu.Lock()
		defer s.mu.Unlock()
		l.heardLocked(now, size)
		l.confirmed = true
		l.progressLocked(now)
		s.relieveLocked()
		s.acknowledgeLocked(0, next, now)
		l.takeLanes()
		s.kickLocked()
		s.changedLocked()
		return nil
	}
	if t == wire.TypePacket {
		l.receivedPacket(now, size)
		if s.cfg.Packet != nil {
			s.cfg.Packet(body)
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	l.heardLocked(now, size)
	if t != wire.TypePadding {
		s.shaper.Carried(size)
	}
	if t.Numbered() {
		return l.numberedLocked(t, body, size, now)
	}
	switch t {
	case wire.TypePing:
		id, err := wire.ParsePing(body)
		if err != nil {
			return err
		}
		if len(l.outbox) < 1<<10 { // a flood of PINGs gets few PONGs
			l.outbox = wire.AppendPong(l.outbox, id)
			if id == dummyPing {
				l.padding += s.shaper.Reply()
			}
		}
		l.kickLocked()
	case wire.TypePong:
		id, err := wire.ParsePing(body)
		if err != nil {
			return err
		}
		if l.pinging && id == l.pingID {
			l.pinging = false
			l.progressLocked(now)
			l.sample(l.pingAt, now, 0)
			s.probedLocked()
		}
	case wire.TypeAck:
		var room [wire.MaxAckRanges]wire.Range
		a, err := wire.ParseAck(body, room[:])
		if err != nil {
			return err
		}
		return l.ackLocked(a, now)
	case wire.TypeGoAway:
		g, err := wire.ParseGoAway(body)
		if err != nil {
			return err
		}
		by := now.Add(time.Duration(g.Within) * time.Millisecond)
		if g.Reason == wire.GoAwayDraining {
			if s.cfg.Role == Client {
				s.leaveLocked(by)
			}
			return nil
		}
		l.draining, l.drainBy = true, by
		s.armLocked(l.drainBy)
		s.kickLocked()
		s.changedLocked()
	case wire.TypeHello, wire.TypeWelcome, wire.TypeRefused:
		return fmt.Errorf("%w: type %#x in the middle of a link", wire.ErrMalformed, uint8(t))
	}
	return nil
}

func (l *Link) receivedPacket(now time.Time, size int) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.heardLocked(now, size)
	l.s.shaper.Carried(size)
}

// heardLocked notes that a frame came in.
func (l *Link) heardLocked(now time.Time, size int) {
	l.received += uint64(size)
	l.s.count.received += uint64(size)
	l.lastRecv = now
	l.burst = 0
}

// ackLocked handles an ACK.
func (l *Link) ackLocked(a wire.Ack, now time.Time) error {
	s := l.s
	if a.Next > s.ring.next() || len(a.Ranges) > 0 && a.Ranges[len(a.Ranges)-1].To > s.ring.next() {
		return fmt.Errorf("%w: ACK of a frame that was never sent", wire.ErrMalformed)
	}
	if a.Echo > 0 && a.Echo != l.lastEcho {
		l.lastEcho = a.Echo
		l.progressLocked(now)
		if f := s.ring.get(a.Echo - 1); f != nil && f.link == l && f.sends == 1 {
			l.sample(f.sentAt, now, time.Duration(a.Delay)*time.Microsecond)
		}
	}
	s.acknowledgeLocked(0, a.Next, now)
	for _, r := range a.Ranges {
		s.acknowledgeLocked(r.From, r.To, now)
	}
	s.overtakeLocked(now)
	s.kickLocked()
	return nil
}

// acknowledgeLocked lets go of the frames numbered from to to-1.
func (s *Session) acknowledgeLocked(from, to uint64, now time.Time) {
	s.acked.add(from, min(to, s.ring.next()), func(from, to uint64) {
		for n := from; n < to; n++ {
			f := s.ring.get(n)
			if f == nil {
				continue
			}
			f.acked = true
			if f.typ == wire.TypeClose {
				s.farewellLocked()
			}
			if l := f.link; l != nil {
				l.inFlight -= len(f.buf)
				l.arrived += len(f.buf)
				l.recent.add(len(f.buf), now)
				l.frames--
				l.progressLocked(now)
				if l.rate.acked(len(f.buf), now) {
					l.tuneLocked(now)
				}
			}
			s.ring.drop(n)
			s.releaseLocked(f)
		}
	})
}

// numberedLocked handles a numbered frame: it counts once, on whatever link it comes.
func (l *Link) numberedLocked(t wire.Type, body []byte, size int, now time.Time) error {
	s := l.s
	seq, rest, err := wire.ParseSeq(body)
	if err != nil {
		return err
	}
	l.echo, l.echoAt = seq+1, now
	l.unacked += size
	if l.unacked >= ackEvery {
		l.ackNow = true
		l.kickLocked()
	} else if l.ackAt.IsZero() {
		l.ackAt = now.Add(ackDelay)
		s.armLocked(l.ackAt)
	}
	if s.seen.has(seq) {
		return nil
	}
	if seq > s.seen.next+1<<20 || len(s.seen.ranges) > maxGaps {
		return fmt.Errorf("%w: frame %d leaves too many gaps above %d", wire.ErrMalformed, seq, s.seen.next)
	}
	s.seen.add(seq, seq+1, nil)
	switch t {
	case wire.TypeData:
		d, err := wire.ParseData(rest)
		if err != nil {
			return err
		}
		s.lastData, s.quietPings = now, 0
		if st := s.incomingLocked(d.Stream); st != nil {
			l.answerLocked(st)
			return st.dataLocked(d)
		}
	case wire.TypeOpen:
		o, err := wire.ParseOpen(rest)
		if err != nil {
			return err
		}
		return s.openLocked(o)
	case wire.TypeOpened:
		o, err := wire.ParseOpened(rest)
		if err != nil {
			return err
		}
		if st := s.streams[o.Stream]; st != nil && s.cfg.Role == Client {
			st.openedLocked(o)
		}
	case wire.TypeFin:
		m, err := wire.ParseMark(rest)
		if err != nil {
			return err
		}
		if st := s.incomingLocked(m.Stream); st != nil {
			return st.finLocked(m.Offset)
		}
	case wire.TypeWindow:
		m, err := wire.ParseMark(rest)
		if err != nil {
			return err
		}
		if st := s.streams[m.Stream]; st != nil && m.Offset > st.sendMax {
			st.sendMax = m.Offset
			st.wakeSendLocked()
		}
	case wire.TypeReset:
		r, err := wire.ParseReset(rest)
		if err != nil {
			return err
		}
		if st := s.incomingLocked(r.Stream); st != nil {
			st.abortLocked(&flow.Error{Code: r.Code})
		}
	case wire.TypeResolve:
		r, err := wire.ParseResolve(rest)
		if err != nil {
			return err
		}
		s.resolveLocked(r)
	case wire.TypeResolved:
		r, err := wire.ParseResolved(rest)
		if err != nil {
			return err
		}
		if ch := s.resolves[r.ID]; ch != nil {
			delete(s.resolves, r.ID)
			ch <- r
		}
	case wire.TypeClose:
		code, err := wire.ParseClose(rest)
		if err != nil {
			return err
		}
		l.ackNow = true
		s.closedByPeerLocked(l, code)
	}
	return nil
}

// closedByPeerLocked ends the session after its CLOSE has been acknowledged, as far as that can be done at once.
func (s *Session) closedByPeerLocked(l *Link, code flow.Code) {
	if code == flow.CodeNone {
		code = flow.CodeSessionLost
	}
	go func() {
		s.mu.Lock()
		if !l.busy && !l.dead && !l.waiting {
			l.busy = true
			l.flushLocked(false)
		}
		s.endLocked(&flow.Error{Code: code})
		s.mu.Unlock()
	}()
}

func (s *Session) resolveLocked(r wire.Resolve) {
	if s.cfg.Resolve == nil || s.resolving >= maxResolves {
		s.queueLocked(newControl(wire.AppendResolved(nil, wire.Resolved{ID: r.ID, Code: flow.CodeBusy})))
		s.kickLocked()
		return
	}
	s.resolving++
	go s.resolveFor(r)
}

// incomingLocked finds the stream that an incoming frame is for. Frames of one stream may arrive before its OPEN, on
// another link: then it is made, and waits for it. nil means that it has ended already.
func (s *Session) incomingLocked(id uint32) *Stream {
	if st := s.streams[id]; st != nil || s.cfg.Role == Client {
		return st
	}
	if id%2 != 0 || s.opened.has(uint64(id/2)) || len(s.streams) >= s.cfg.MaxStreams {
		return nil
	}
	return s.newStreamLocked(id, s.cfg.Window)
}

// openLocked handles an OPEN.
func (s *Session) openLocked(o wire.Open) error {
	index := uint64(o.Stream / 2)
	if s.cfg.Role != Gateway || s.cfg.Accept == nil || o.Stream%2 != 0 || s.opened.has(index) ||
		len(s.opened.ranges) > maxGaps || index > s.opened.next+1<<16 {
		return fmt.Errorf("%w: OPEN of stream %d", wire.ErrMalformed, o.Stream)
	}
	st := s.incomingLocked(o.Stream)
	s.opened.add(index, index+1, nil)
	if st == nil {
		s.queueLocked(newControl(wire.AppendOpened(nil, wire.Opened{Stream: o.Stream, Code: flow.CodeBusy})))
		s.kickLocked()
		return nil
	}
	s.count.streams++
	st.sendMax = uint64(o.Window)
	if st.err != nil { // its RESET came first
		st.finishLocked()
		return nil
	}
	go s.cfg.Accept(st, o.Target)
	return nil
}
