package session

import (
	"errors"
	"net"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// minSuspicion is the shortest silence that makes a link suspected.
	minSuspicion = 400 * time.Millisecond
	// firstRTT is assumed before anything was measured (RFC 6298 would wait a second for its first answer).
	firstRTT = 300 * time.Millisecond
	// ackDelay is the longest an acknowledgement waits for company, ackEvery the bytes that make it go at once.
	ackDelay = 20 * time.Millisecond
	ackEvery = 256 << 10
	// smallChunk is the shortest chunk that streams with much to send are cut into, in bytes.
	smallChunk = 4096 - wire.DataOverhead
	// frailBytes is what a link has to have carried until large chunks may be sent again on others as they are. Some
	// firewalls freeze every connection after some 16 KB: a longer chunk would not come through on any of them, ever.
	frailBytes = 64 << 10
	// drainTime is how long a replaced link may take to be done.
	drainTime = 5 * time.Second
)

// Link is one connection of a transport that carries the session's frames.
//
//	Attach ──> healthy <──> suspected ──> dead (closed by either end, or by an error)
//	              └──> draining (retired by either end: takes nothing new) ────┘
//
// Its reader goroutine lives from Attach until the link is dead; a writer exists only while there is something to
// write.
type Link struct {
	s    *Session
	conn transport.Conn
	opt  LinkOptions
	id   uint64
	born time.Time
	// nonBlocking is conn if its writes never wait, else nil: then only the link's writer goroutine writes.
	nonBlocking transport.NonBlocking
	// laned is conn if it has lanes, else nil.
	laned transport.Laned
	// scarce links carry nothing while there are others.
	scarce bool

	// Guarded by s.mu.
	busy      bool // someone is in flush
	waiting   bool // the network takes nothing more at the moment
	confirmed bool // the far side has answered on this link, or needs not
	suspected bool
	draining  bool
	dead      bool
	cause     error // why it died

	rtt       rttEstimate
	rate      rateEstimate
	recent    recentBytes
	path      pathEstimate
	slowUntil time.Time // it carries nothing beside others before; see overtakeLocked
	slowTimes int       // how often it was found to be slow
	inFlight  int       // bytes of unacknowledged frames whose link this is
	frames    int       // how many those are
	busySince time.Time // since when there are any
	arrived   int       // bytes of such that were acknowledged
	lastAck   time.Time // when acknowledgements last progressed, or the link began to wait for one
	lastRecv  time.Time
	lastEcho  uint64
	borne     time.Duration // the patience that the last suspicion had
	recovered time.Time     // when it ended
	pinging   bool
	pingID    uint64
	pingAt    time.Time
	unsent    int // the limit last given to the transport

	echo      uint64    // number plus one of the last numbered frame that came in
	echoAt    time.Time // when it did
	unacked   int       // bytes that came in since our last ACK on this link
	ackAt     time.Time // when that ACK is due; zero if none is
	ackNow    bool
	burst     int    // bytes sent since anything came
	padding   int    // bytes to add to the next write
	disguised int    // small writes that were lengthened
	outbox    []byte // link frames to send: PING, PONG, GOAWAY
	sent      uint64 // bytes
	received  uint64
	drainBy   time.Time

	readDone chan struct{}
}

// LinkOptions is what Attach is told about a link.
type LinkOptions struct {
	// Transport names the transport, for status.
	Transport string
	// RTT is a first guess of the round trip, as the handshake showed it; zero if unknown.
	RTT time.Duration
	// Confirmed says that the far side's acknowledgement (PeerNext) is known already. A link that is not confirmed
	// carries nothing a second time until the far side has said how far it came.
	Confirmed bool
	PeerNext  uint64
	// Handshake takes the far side's handshake frame (WELCOME, REFUSED) and returns its acknowledgement, or an error
	// that ends the link. It is called before any other frame of the link is handled. Nil if none is to come.
	Handshake func(t wire.Type, body []byte) (peerNext uint64, err error)
}

// ErrReplaced is the cause of a link that was closed because another took its place.
var ErrReplaced = errors.New("replaced by another link")

// ErrSilent is the cause of a link that was closed because nothing came through it any more.
var ErrSilent = errors.New("nothing comes through")

// Attach gives the session a link; the session owns conn from now on. It fails if the session has ended.
func (s *Session) Attach(conn transport.Conn, opt LinkOptions) (*Link, error) {
	now := time.Now()
	l := &Link{s: s, conn: conn, opt: opt, born: now, lastAck: now, lastRecv: now, readDone: make(chan struct{})}
	l.confirmed = opt.Confirmed
	l.rtt.seed(opt.RTT)
	if nb, ok := conn.(transport.NonBlocking); ok {
		l.nonBlocking = nb
		nb.OnDrained(l.onDrained)
	}
	l.laned, _ = conn.(transport.Laned)
	if t, ok := conn.(transport.Tuned); ok {
		cc := t.Congestion()
		l.path.lossBased = cc != "" && !strings.HasPrefix(cc, "bbr")
	}
	if sc, ok := conn.(transport.Scarce); ok {
		l.scarce = sc.Scarce()
	}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		conn.Close()
		return nil, s.err
	}
	s.lastLink++
	l.id = s.lastLink
	if opt.Confirmed {
		s.acknowledgeLocked(0, opt.PeerNext, now)
	}
	s.links = append(s.links, l)
	s.detached, s.trimmed = time.Time{}, false
	s.probeAt = time.Time{}
	if len(s.streams) > 0 { // what they wait for comes by this link now, or it is asked why not
		s.lastData, s.quietPings = now, 0
	}
	s.relieveLocked()
	l.tuneLocked(now)
	s.kickLocked()
	s.armLocked(now.Add(minSuspicion))
	s.changedLocked()
	s.mu.Unlock()
	if opt.Handshake == nil {
		l.takeLanes()
	}
	if h, ok := conn.(transport.Hosted); ok {
		h.Host(l.read)
	} else {
		go l.read()
	}
	return l, nil
}

// Close ends the link at once; what it carried goes to others.
func (l *Link) Close() { l.fail(ErrReplaced) }

// Retire asks the far side to use other links, and closes this one when all it carries is acknowledged, or after five
// seconds.
func (l *Link) Retire() {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	l.retireLocked(wire.GoAwayReplaced, drainTime)
}

func (l *Link) retireLocked(why wire.Reason, within time.Duration) {
	if l.dead || l.draining {
		return
	}
	l.draining = true
	l.drainBy = time.Now().Add(within)
	l.outbox = wire.AppendGoAway(l.outbox, wire.GoAway{Reason: why, Within: uint32(within / time.Millisecond)})
	l.kickLocked()
	l.s.kickLocked()
	l.s.armLocked(l.drainBy)
}

// fail makes the link dead because of err.
func (l *Link) fail(err error) {
	l.s.mu.Lock()
	l.failLocked(err)
	l.s.mu.Unlock()
}

func (l *Link) failLocked(err error) {
	s := l.s
	if l.dead {
		return
	}
	l.dead, l.cause = true, err
	for i, other := range s.links {
		if other == l {
			s.links = append(s.links[:i:i], s.links[i+1:]...)
			break
		}
	}
	go l.conn.Close() // it may wait for a Write, and the lock is held
	if s.err != nil {
		return
	}
	if s.strongest == l {
		s.strongest = nil
	}
	s.moveLocked(l)
	now := time.Now()
	if len(s.links) == 0 {
		if s.closing {
			s.farewellLocked()
		}
		if s.leaving {
			s.endLocked(&flow.Error{Code: flow.CodeSessionLost})
			return
		}
		s.detached = now
		s.armLocked(now.Add(min(s.cfg.Grace, s.cfg.Sleep)))
		if l.pinging && l.frames == 0 { // an idle probe found it dead: probe sooner from now on
			s.probeEvery = max(s.probeEvery/2, probeMin)
		}
	}
	s.log.Debug("link ended", "link", l.id, "transport", l.opt.Transport, "cause", withoutAddress(err))
	s.kickLocked()
	s.changedLocked()
}

// withoutAddress is an error's text, but for the addresses of both ends that the net package puts into it.
func withoutAddress(err error) string {
	text := err.Error()
	for op := (*net.OpError)(nil); errors.As(err, &op); err = op.Err {
		text = op.Err.Error()
	}
	return text
}

// moveLocked puts every unacknowledged frame of l in line to be sent again elsewhere.
func (s *Session) moveLocked(l *Link) {
	if l.frames == 0 || !l.dead && !s.othersLocked(l) {
		return
	}
	s.ring.each(func(f *frame) {
		if f.link == l && !f.acked && !f.waiting {
			s.againLocked(f)
		}
	})
}

// againLocked puts a frame that a link has in line to be sent again elsewhere.
func (s *Session) againLocked(f *frame) {
	l := f.link
	l.inFlight -= len(f.buf)
	l.frames--
	f.link, f.waiting = nil, true
	s.resend.push(f)
	if l.arrived < frailBytes {
		s.splitLocked(f)
	}
}

// splitLocked cuts a chunk that waits to be sent again into small ones. The first keeps the number, of which the far side
// counts what comes first; the others get their own, and what they bring twice is dropped by its offset.
func (s *Session) splitLocked(f *frame) {
	if f.typ != wire.TypeData || f.writing > 0 || len(f.buf) <= smallChunk+wire.DataOverhead {
		return
	}
	d, err := wire.ParseData(f.buf[wire.HeaderLen+wire.SeqLen:])
	if err != nil {
		return
	}
	whole := f.buf
	s.uncharge(f)
	for at := 0; at < len(d.Payload); at += smallChunk {
		part := d.Payload[at:min(at+smallChunk, len(d.Payload))]
		buf := getBuffer(wire.DataOverhead + len(part))
		copy(buf[wire.DataOverhead:], part)
		wire.PutData(buf, d.Stream, d.Offset+uint64(at))
		if at == 0 {
			f.buf = buf
			wire.PutSeq(buf, f.seq)
			s.charge(f)
			continue
		}
		piece := &frame{buf: buf, typ: f.typ, stream: f.stream, waiting: true}
		s.charge(piece)
		s.ring.push(piece)
		s.resend.push(piece)
	}
	putBuffer(whole)
}

// relieveLocked puts in line what links carry that had to because there were none better: suspected ones, while all are,
// and scarce ones.
func (s *Session) relieveLocked() {
	main, _ := s.rolesLocked()
	for _, l := range s.links {
		if l.suspected || l.scarce && main != nil && main.standing() < l.standing() {
			s.moveLocked(l)
		}
	}
}

// othersLocked reports whether another link could carry what l carries.
func (s *Session) othersLocked(l *Link) bool {
	for _, o := range s.links {
		if o != l && !o.dead && !o.draining && !o.suspected {
			return true
		}
	}
	return false
}

// suspectLocked marks a link through which nothing seems to come.
func (l *Link) suspectLocked(now time.Time) {
	if l.suspected {
		return
	}
	s := l.s
	l.suspected, l.borne = true, l.patience()
	s.count.suspicions++
	s.log.Debug("link suspected", "link", l.id, "transport", l.opt.Transport,
		"silent", now.Sub(l.lastAck).Round(time.Millisecond))
	s.moveLocked(l)
	s.kickLocked()
	s.changedLocked()
}

// progressLocked notes that something l sent has arrived.
func (l *Link) progressLocked(now time.Time) {
	l.lastAck = now
	if l.suspected {
		l.suspected, l.recovered = false, now
		l.s.log.Debug("link recovered", "link", l.id, "transport", l.opt.Transport)
		l.s.relieveLocked()
		l.s.kickLocked()
		l.s.changedLocked()
	}
}

// awaitsLocked reports whether the link waits for the far side: to acknowledge or answer something, or to take what was
// written. The last alone is left of a link whose frames were acknowledged on others after it got stuck.
func (l *Link) awaitsLocked() bool { return l.frames > 0 || l.pinging || !l.confirmed || l.waiting }

// waitLocked notes that the link takes no more for now.
func (l *Link) waitLocked() {
	if !l.awaitsLocked() {
		l.lastAck = time.Now()
		l.s.armLocked(l.lastAck.Add(l.patience()))
	}
	l.waiting = true
	l.s.armLocked(time.Now().Add(pathInterval))
}

// patience is how long acknowledgements may make no progress before the link is suspected: a round trip with its
// variation, and one tail-loss probe of two round trips (RFC 8985 §7.2) during which TCP may yet repair it.
func (l *Link) patience() time.Duration {
	return max(minSuspicion, l.rtt.smoothed+4*l.rtt.variation+2*l.rtt.smoothed+ackDelay)
}

// sample takes into account how long something that was sent at a time took to be answered. What was sent into a silence
// tells how long that lasted rather than how far the far side is: it counts no more than the patience that there was, or the
// next silence would be borne for as long, above all on a link that stands by and has few others. A path that has become
// slow is known after a few all the same.
func (l *Link) sample(sent, now time.Time, held time.Duration) {
	d := now.Sub(sent) - held
	if sent.Before(l.recovered) {
		d = min(d, l.borne)
	}
	l.rtt.sample(d)
}

// onDrained is called by the transport when it can take more, on a goroutine that may write.
func (l *Link) onDrained() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.waiting = false
	if !l.busy && !l.dead {
		l.busy = true
		l.flushLocked(false)
	}
}

// tuneLocked looks at what the link carries and what its path is like. It adapts how much the kernel may hold unsent to
// what the link carries in 40 ms, so that nothing waits long behind it, little is stranded in a dead socket, and a link
// that turns out slow is not given what others could carry.
func (l *Link) tuneLocked(now time.Time) {
	t, ok := l.conn.(transport.Tuned)
	if !ok {
		return
	}
	l.path.full = l.path.full || l.waiting
	l.path.observe(t.Measure(), l.arrived, now)
	l.s.forgiveLocked(now)
	limit := min(max(int(l.rate.best()/25), minUnsent), 128<<10)
	limit = max(limit, int(l.rate.best()/1000)) // beyond a gigabit, 128 KiB is less than a wake-up takes
	if limit > l.unsent*5/4 || limit < l.unsent*3/4 {
		l.unsent = limit
		t.SetUnsentLimit(limit)
	}
}

// minUnsent is allowed unsent on any link: a little more than a new connection may have on its way (RFC 6928).
const minUnsent = 16 << 10

// batchLocked is how many bytes the link takes at once.
func (l *Link) batchLocked() int { return min(max(int(l.rate.best()/50), minUnsent), batchBytes) }

// chunkLocked is how many bytes a chunk should carry now: what the best link sends in 20 ms, so that on a slow one a
// keystroke waits for little and a chunk's loss costs little.
func (s *Session) chunkLocked() int {
	var best float64
	for _, l := range s.links {
		if !l.dead && !l.suspected {
			best = max(best, l.rate.best())
		}
	}
	n := int(best / 50)
	switch {
	case n >= wire.MaxFrame:
		return wire.MaxChunk
	case n >= 32768:
		return 32768 - wire.DataOverhead
	case n >= 16384:
		return 16384 - wire.DataOverhead
	}
	return smallChunk
}
