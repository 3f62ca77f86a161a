package linkmodel

import (
	"container/heap"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"time"
)

// maxFrame is an Ethernet frame at an MTU of 1500 with two VLAN tags.
const maxFrame = 1522

// minFrame is an Ethernet header.
const minFrame = 14

// smallFrame is the length up to which a frame is held in a small buffer: acknowledgements are half of all frames.
const smallFrame = 128

// packet is a frame in the delay line.
type packet struct {
	due  int64 // nanoseconds
	seq  uint64
	data []byte
}

func (p packet) before(q packet) bool { return p.due < q.due || p.due == q.due && p.seq < q.seq }

// line is one direction without any input or output: frames go in with the time they arrived and come out when due.
// Times are nanoseconds of any monotonic clock. It is not safe for concurrent use.
type line struct {
	d     Direction
	limit int64
	rng   *rand.Rand
	busy  int64 // when the bottleneck will have sent all it holds
	last  int64 // due time of the last frame that keeps its order
	burst bool  // in a burst of losses

	tokens   float64 // bytes in the policer's bucket
	tokensAt int64   // when they were counted
	seq      uint64

	inOrder fifo
	late    lateHeap // frames that others may overtake
	waiting lateHeap // frames that have yet to arrive

	answers []answer // to be put on the path back

	small, large [][]byte // free buffers

	stats     Stats
	lateCount [40]uint64 // by log2 of microseconds
}

func newLine(d Direction, seed, stream uint64) *line {
	// ChaCha8, because the first numbers of simpler generators hang together when seeds are small and close.
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], stream)
	l := &line{rng: rand.New(rand.NewChaCha8(key))}
	l.set(d)
	return l
}

// answer is a frame for the other direction.
type answer struct {
	at    int64
	frame []byte
}

// set changes what happens to frames that arrive from now on.
func (l *line) set(d Direction) {
	if l.d.PoliceRate == 0 {
		l.tokens = float64(d.PoliceBurst)
	}
	l.d, l.limit = d, d.queueLimit()
	if d.Rate == 0 {
		l.busy = 0
	}
	if d.BurstStart == 0 {
		l.burst = false
	}
}

// push takes a frame that arrived at now; data is copied.
func (l *line) push(now int64, data []byte) {
	if !l.fits(data) {
		return
	}
	l.admit(now)
	l.meet(now, data)
}

// pushLater takes a frame that will arrive at the given time, which is not in the past; data is copied.
func (l *line) pushLater(at int64, data []byte) {
	if !l.fits(data) {
		return
	}
	l.stats.InFlight++
	heap.Push(&l.waiting, l.packet(at, data))
}

// admit lets the waiting frames arrive whose time has come.
func (l *line) admit(now int64) {
	for len(l.waiting) > 0 && l.waiting[0].due <= now {
		p := heap.Pop(&l.waiting).(packet)
		l.stats.InFlight--
		l.meet(p.due, p.data)
		l.free(p)
	}
}

func (l *line) fits(data []byte) bool {
	l.stats.Frames++
	l.stats.Bytes += uint64(len(data))
	if len(data) < minFrame || len(data) > maxFrame {
		l.stats.Oversize++
		return false
	}
	return true
}

// refuse counts a frame that the kernel should not have brought.
func (l *line) refuse(unfinished bool, n int) {
	l.stats.Frames++
	l.stats.Bytes += uint64(n)
	if unfinished {
		l.stats.Unfinished++
	} else {
		l.stats.Oversize++
	}
}

// meet is what the path does to a frame.
func (l *line) meet(now int64, data []byte) {
	if l.d.MTU == 0 || len(data)-minFrame <= l.d.MTU {
		l.enter(now, data)
		return
	}
	parts, reply := narrow(l.d.MTU, data)
	for _, part := range parts {
		l.enter(now, part)
	}
	l.stats.Fragments += uint64(max(0, len(parts)-1))
	if parts == nil {
		l.stats.TooLong++
	}
	if reply != nil {
		l.stats.Answers++
		l.answers = append(l.answers, answer{now, reply})
	}
}

// enter is what the path does to a frame that is not too long.
func (l *line) enter(now int64, data []byte) {
	n := int64(len(data))
	if l.d.PoliceRate > 0 && !l.conforms(now, float64(n)) {
		l.stats.Policed++
		return
	}
	due := now
	if l.d.Rate > 0 {
		start := max(now, l.busy)
		if backlog := float64(start-now) * float64(l.d.Rate) / 8e9; int64(backlog)+n > l.limit {
			l.stats.Dropped++
			return
		}
		l.busy = start + n*8*int64(time.Second)/l.d.Rate
		due = l.busy
	}
	if l.lost() {
		l.stats.Lost++
		return
	}
	due += int64(l.d.Delay)
	if l.d.Jitter > 0 {
		due += l.rng.Int64N(int64(l.d.Jitter) + 1)
	}
	l.hold(due, data)
	if l.d.Duplicate > 0 && l.rng.Float64() < l.d.Duplicate {
		l.stats.Duplicated++
		l.hold(due, data)
	}
}

// conforms takes n bytes out of the policer's bucket, if it holds them.
func (l *line) conforms(now int64, n float64) bool {
	filled := float64(max(0, now-l.tokensAt)) * float64(l.d.PoliceRate) / 8e9
	l.tokens = min(l.tokens+filled, float64(l.d.PoliceBurst))
	l.tokensAt = max(now, l.tokensAt)
	if n > l.tokens {
		return false
	}
	l.tokens -= n
	return true
}

func (l *line) lost() bool {
	p := l.d.Loss
	if l.d.BurstStart > 0 {
		change := l.d.BurstStart
		if l.burst {
			change = l.d.BurstEnd
		}
		if l.rng.Float64() < change {
			l.burst = !l.burst
		}
		if l.burst {
			if p = l.d.BurstLoss; p == 0 {
				p = 1
			}
		}
	}
	return p > 0 && l.rng.Float64() < p
}

// packet copies a frame.
func (l *line) packet(due int64, data []byte) packet {
	l.seq++
	return packet{due: due, seq: l.seq, data: append(l.buffer(len(data)), data...)}
}

func (l *line) hold(due int64, data []byte) {
	p := l.packet(due, data)
	l.stats.InFlight++
	if l.d.Reorder > 0 && l.rng.Float64() < l.d.Reorder {
		l.stats.Reordered++
		p.due += int64(l.d.ReorderBy)
		heap.Push(&l.late, p)
		return
	}
	p.due = max(p.due, l.last)
	l.last = p.due
	l.inOrder.push(p)
}

// next says when the next frame is due, or arrives after waiting; false if none is held.
func (l *line) next() (at int64, ok bool) {
	at = math.MaxInt64
	if p, some := l.inOrder.peek(); some {
		at, ok = p.due, true
	}
	for _, h := range []lateHeap{l.late, l.waiting} {
		if len(h) > 0 {
			at, ok = min(at, h[0].due), true
		}
	}
	return at, ok
}

// pop takes the next frame that is due at horizon. Its data must be given back with free.
func (l *line) pop(horizon int64) (packet, bool) {
	l.admit(horizon)
	first, ok := l.inOrder.peek()
	late := len(l.late) > 0 && (!ok || l.late[0].before(first))
	if late {
		first, ok = l.late[0], true
	}
	if !ok || first.due > horizon {
		return packet{}, false
	}
	l.stats.InFlight--
	if late {
		return heap.Pop(&l.late).(packet), true
	}
	return l.inOrder.pop(), true
}

// left notes that p left at now.
func (l *line) left(now int64, p packet) {
	l.stats.Sent++
	l.stats.SentBytes += uint64(len(p.data))
	us := uint64(max(0, now-p.due)) / 1000
	l.stats.LateMaxus = max(l.stats.LateMaxus, us)
	l.lateCount[min(bits.Len64(us), len(l.lateCount)-1)]++
}

func (l *line) buffer(n int) []byte {
	list, size := &l.large, maxFrame
	if n <= smallFrame {
		list, size = &l.small, smallFrame
	}
	if k := len(*list); k > 0 {
		b := (*list)[k-1]
		*list = (*list)[:k-1]
		return b[:0]
	}
	return make([]byte, 0, size)
}

func (l *line) free(p packet) {
	if cap(p.data) == smallFrame {
		l.small = append(l.small, p.data)
	} else {
		l.large = append(l.large, p.data)
	}
}

// snapshot is the counters with the lateness filled in.
func (l *line) snapshot() Stats {
	s := l.stats
	s.LateP50us, s.LateP99us = l.lateQuantile(0.50), l.lateQuantile(0.99)
	return s
}

func (l *line) lateQuantile(q float64) uint64 {
	var sum uint64
	for _, c := range l.lateCount {
		sum += c
	}
	want, seen := uint64(q*float64(sum)), uint64(0)
	for i, c := range l.lateCount {
		if seen += c; seen > want {
			return 1<<i - 1
		}
	}
	return 0
}

// fifo is a ring of packets whose due times never fall. Its length is a power of two.
type fifo struct {
	ring       []packet
	head, size int
}

func (f *fifo) push(p packet) {
	if f.size == len(f.ring) {
		bigger := make([]packet, max(1024, 2*len(f.ring)))
		for i := range f.size {
			bigger[i] = f.ring[(f.head+i)&(len(f.ring)-1)]
		}
		f.ring, f.head = bigger, 0
	}
	f.ring[(f.head+f.size)&(len(f.ring)-1)] = p
	f.size++
}

func (f *fifo) peek() (packet, bool) {
	if f.size == 0 {
		return packet{}, false
	}
	return f.ring[f.head], true
}

func (f *fifo) pop() packet {
	p := f.ring[f.head]
	f.ring[f.head] = packet{}
	f.head = (f.head + 1) & (len(f.ring) - 1)
	f.size--
	return p
}

// lateHeap orders by due time, then by arrival.
type lateHeap []packet

func (h lateHeap) Len() int           { return len(h) }
func (h lateHeap) Less(i, j int) bool { return h[i].before(h[j]) }
func (h lateHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lateHeap) Push(x any)        { *h = append(*h, x.(packet)) }
func (h *lateHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = packet{}
	*h = old[:len(old)-1]
	return p
}
