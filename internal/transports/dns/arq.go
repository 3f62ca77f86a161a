package dns

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/xtaci/kcp-go/v5"
)

// arq is KCP between two ends that can say something only now and then, in few bytes. KCP decides what is sent, and sent
// again; it believes that a segment leaves at once, in 24 bytes of its own. Here its segments wait for a query or an
// answer with room, lose what follows from other things, and are not repeated sooner than an answer can have come.
//
// It is not safe for concurrent use.
type arq struct {
	kcp     *kcp.KCP
	segment int // how long segments are
	room    int // for so many that come

	out []byte // written, and not yet KCP's
	in  []byte // came, and not yet read

	// What KCP has said and nobody has taken.
	una    uint32
	window byte
	acks   []uint32
	beyond []uint32 // what came that una does not tell: acknowledged in every packet, as packets are lost
	ask    bool
	tell   bool
	queue  []*outgoing

	next     uint32                  // the first number that KCP has not used
	sent     [2 * maxWindow]outgoing // by number; what is in flight is never more than maxWindow
	acked    uint32                  // the other end's una
	trip     time.Duration           // smoothed, from a segment's leaving to its acknowledgement
	least    time.Duration           // the shortest of them; zero before the first
	left     uint64                  // segments
	repeated uint64
	scratch  []byte

	given    uint32 // how many segments KCP was given
	closed   bool   // the other end has no room
	reopened bool   // there is room again at this end, and KCP has not said so

	clock time.Time // when KCP's milliseconds were base
	base  uint32
}

// outgoing is a segment that KCP wants sent.
type outgoing struct {
	sn    uint32
	data  []byte
	first time.Time // when it left for the first time; zero if it has not
	last  time.Time
	done  bool // it was acknowledged
	again bool // it left more than once
	queue bool // it waits
}

const (
	// firstTrip is what a round trip is taken for until one was measured.
	firstTrip = 300 * time.Millisecond
	// mostAcks is how many segments out of order a packet acknowledges that were acknowledged before: a name with no more is
	// a single label.
	mostAcks = 8
	// arqInterval is how often KCP looks, in milliseconds.
	arqInterval = 10
	kcpConv     = 0
)

// newARQ makes one that sends segments of a length and has room for so many that come.
func newARQ(segment, room int) *arq {
	a := &arq{segment: segment, room: room, window: byte(room), trip: firstTrip}
	a.kcp = kcp.NewKCP(kcpConv, a.output)
	a.clock, a.base = time.Now(), a.kcp.Check() // which is the time of day, as long as there was no update
	a.kcp.SetMtu(kcp.IKCP_OVERHEAD + max(segment, 50))
	a.kcp.WndSize(maxWindow, room)
	// No congestion window: rate, window and the number of queries under way bound it. Its own quick repeats are on, for
	// segments in several queries; those that are too quick wait in the queue. At least 100 ms to a repeat.
	a.kcp.NoDelay(0, arqInterval, 8, 1)
	// KCP would begin with repeats after 200 ms. An acknowledgement of nothing tells it of the path, and of no more room than
	// there surely is.
	a.kcp.Input(a.appendKCP(nil, kcp.IKCP_CMD_ACK, gatewayRoom, a.ms(a.clock.Add(-firstTrip)), ^uint32(0), 0, nil),
		kcp.IKCP_PACKET_REGULAR, false)
	return a
}

// ms is a time by KCP's clock.
func (a *arq) ms(t time.Time) uint32 { return a.base + uint32(t.Sub(a.clock)/time.Millisecond) }

// appendKCP appends a segment as KCP writes them.
func (a *arq) appendKCP(b []byte, cmd, window byte, ts, sn, una uint32, data []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, kcpConv)
	b = append(b, cmd, 0, window, 0)
	for _, v := range []uint32{ts, sn, una, uint32(len(data))} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(b, data...)
}

// output takes what KCP sends.
func (a *arq) output(b []byte, size int) {
	for b = b[:size]; len(b) >= kcp.IKCP_OVERHEAD; {
		n := kcp.IKCP_OVERHEAD + int(binary.LittleEndian.Uint32(b[20:]))
		a.window = byte(min(binary.LittleEndian.Uint16(b[6:]), maxWindow))
		a.una = binary.LittleEndian.Uint32(b[16:])
		switch sn := binary.LittleEndian.Uint32(b[12:]); b[4] {
		case kcp.IKCP_CMD_PUSH:
			a.enqueue(sn, b[kcp.IKCP_OVERHEAD:n])
		case kcp.IKCP_CMD_ACK:
			a.acks = append(a.acks, sn)
		case kcp.IKCP_CMD_WASK:
			a.ask = true
		case kcp.IKCP_CMD_WINS:
			a.tell = true
		}
		b = b[n:]
	}
}

func (a *arq) enqueue(sn uint32, data []byte) {
	o := &a.sent[sn%uint32(len(a.sent))]
	if int32(sn-a.next) >= 0 {
		a.next = sn + 1
		*o = outgoing{sn: sn, data: o.data[:0]}
	}
	if o.sn != sn || o.queue || o.done {
		return
	}
	o.data = append(o.data[:0], data...)
	o.queue = true
	a.queue = append(a.queue, o)
}

// write takes bytes to send.
func (a *arq) write(b []byte) { a.out = append(a.out, b...) }

// unacked reports whether anything that was written has not been acknowledged.
func (a *arq) unacked() bool { return len(a.out) > 0 || a.kcp.WaitSnd() > 0 }

// read moves what came to b.
func (a *arq) read(b []byte) int {
	n := copy(b, a.in)
	a.in = a.in[n:]
	a.receive()
	a.reopened = a.reopened || a.window == 0
	return n
}

// receive takes from KCP what is in order, as much as is held for the reader.
func (a *arq) receive() {
	for len(a.in) < maxHeld {
		n := a.kcp.PeekSize()
		if n < 0 {
			return
		}
		at := len(a.in)
		a.in = slices.Grow(a.in, n)[:at+n]
		a.kcp.Recv(a.in[at:])
	}
}

// maxHeld is how much is taken from KCP before it is asked for. When KCP is full too, its window closes.
const maxHeld = 4 << 10

// feed gives KCP what was written, as far as its window goes.
func (a *arq) feed() {
	for len(a.out) > 0 && a.kcp.WaitSnd() < maxWindow {
		n := min(len(a.out), a.segment)
		a.kcp.Send(a.out[:n])
		a.out = a.out[n:]
		a.given++
	}
	if len(a.out) == 0 {
		a.out = nil
	}
}

// update lets KCP look at what was written, and at its clock.
func (a *arq) update() {
	a.feed()
	a.reopened = false
	a.kcp.Update()
}

// wake is when update is wanted next; zero means not before something happens.
func (a *arq) wake() time.Duration {
	switch {
	case a.reopened || a.given != a.next && !a.closed:
		return arqInterval * time.Millisecond
	case a.unacked():
		return 5 * arqInterval * time.Millisecond
	}
	return 0
}

// tooSoon is how long a segment that has left is not sent again, whatever KCP thinks.
func (a *arq) tooSoon() time.Duration { return a.trip + a.trip/4 }

// prune drops from the queue what need not be sent any more.
func (a *arq) prune() {
	a.queue = slices.DeleteFunc(a.queue, func(o *outgoing) bool {
		gone := int32(o.sn-a.acked) < 0 || !o.queue
		if gone {
			o.queue = false
		}
		return gone
	})
}

// pending reports whether there is something to say now.
func (a *arq) pending(now time.Time) bool {
	return len(a.acks) > 0 || a.tell || a.ask || a.ready(now)
}

// ready reports whether a segment may leave now.
func (a *arq) ready(now time.Time) bool {
	return slices.ContainsFunc(a.queue, func(o *outgoing) bool { return a.mayLeave(o, now) })
}

func (a *arq) mayLeave(o *outgoing, now time.Time) bool {
	return o.last.IsZero() || now.Sub(o.last) >= a.tooSoon()
}

// take makes a packet of at most room bytes, which must be enough for a segment of each kind.
func (a *arq) take(now time.Time, room int) []byte {
	a.prune()
	p := packet{window: a.window, una: uint16(a.una), ask: a.ask, tell: a.tell}
	if room -= packetHead; a.ask || a.tell {
		room -= probeLen
	}
	a.ask, a.tell = false, false
	// What is below una it says already, and the newest of that in a bit.
	for len(a.acks) > 0 && room >= ackLen {
		sn := a.acks[0]
		a.acks = a.acks[1:]
		switch {
		case sn == a.una-1:
			p.acked = true
		case int32(sn-a.una) > 0:
			p.acks = append(p.acks, uint16(sn))
			room -= ackLen
		}
	}
	kept := a.queue[:0]
	for _, o := range a.queue {
		if need := pushHead + 1 + len(o.data); !a.mayLeave(o, now) || room+1 < need {
			kept = append(kept, o)
			continue
		}
		p.pushes = append(p.pushes, push{uint16(o.sn), o.data})
		room -= pushHead + 1 + len(o.data)
		a.left++
		if o.last = now; o.first.IsZero() {
			o.first = now
		} else {
			o.again = true
			a.repeated++
		}
		o.queue = false
	}
	clear(a.queue[len(kept):])
	a.queue = kept
	a.beyond = slices.DeleteFunc(a.beyond, func(sn uint32) bool { return int32(sn-a.una) < 0 })
	for i := len(a.beyond) - 1; i >= 0 && room >= ackLen && len(p.acks) < mostAcks; i-- {
		if sn := uint16(a.beyond[i]); !slices.Contains(p.acks, sn) {
			p.acks = append(p.acks, sn)
			room -= ackLen
		}
	}
	return p.append(nil)
}

// expand finds the number near what is known that ends in what was said.
func expand(near uint32, said uint16) uint32 { return near + uint32(int32(int16(said-uint16(near)))) }

// input takes a packet, and reports whether it was one and whether it held data.
func (a *arq) input(b []byte) (data, ok bool) {
	p, ok := parsePacket(b)
	if !ok {
		return false, false
	}
	una := expand(a.acked, p.una)
	if int32(una-a.next) > 0 {
		return false, false // it acknowledges what was never sent
	}
	now := time.Now()
	if int32(una-a.acked) > 0 {
		a.acked = una
	}
	a.feed()
	k := a.appendKCP(a.scratch[:0], kcp.IKCP_CMD_WINS, p.window, 0, 0, una, nil)
	ack := func(sn uint32) {
		o := &a.sent[sn%uint32(len(a.sent))]
		if o.sn != sn || o.first.IsZero() || int32(sn-a.next) >= 0 || o.done {
			return
		}
		o.queue, o.done = false, true
		if trip := now.Sub(o.first); !o.again { // RFC 6298, section 3
			if a.trip += (trip - a.trip) / 8; a.least == 0 {
				a.trip, a.least = trip, trip
			}
			a.least = min(a.least, trip)
		}
		k = a.appendKCP(k, kcp.IKCP_CMD_ACK, p.window, a.ms(o.last), sn, una, nil)
	}
	for _, sn := range p.acks {
		ack(expand(una, sn))
	}
	if p.acked {
		ack(una - 1)
	}
	if p.ask {
		k = a.appendKCP(k, kcp.IKCP_CMD_WASK, p.window, 0, 0, una, nil)
	}
	a.prune()
	a.closed = p.window == 0
	a.kcp.Input(k, kcp.IKCP_PACKET_REGULAR, true)
	for _, s := range p.pushes { // one by one, so that KCP says how much room there is when it was read
		sn := expand(a.una, s.sn)
		k = a.appendKCP(k[:0], kcp.IKCP_CMD_PUSH, p.window, 0, sn, una, s.data)
		a.kcp.Input(k, kcp.IKCP_PACKET_REGULAR, true)
		a.receive()
		if ahead := int32(sn - a.una); ahead >= 0 && ahead < int32(a.room) && !slices.Contains(a.beyond, sn) {
			a.beyond = append(a.beyond, sn)
		}
	}
	a.scratch = k
	return len(p.pushes) > 0, true
}
