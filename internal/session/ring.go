package session

import (
	"time"

	"github.com/godwit-vpn/godwit/internal/wire"
)

// frame is one numbered frame that this end sends.
//
//	queued ── a link takes it ──> in the ring ── acknowledged ──> released
//	                                 │    ▲
//	             its link died       ▼    │  another link takes it
//	             or is suspected    waiting (link == nil)
//
// All fields are guarded by the session's mu, except that buf may be read without it while writing > 0.
type frame struct {
	seq    uint64
	buf    []byte  // the whole frame as it goes on the wire
	stream *Stream // whose it is; nil for the session's own
	link   *Link   // which link has it; nil while it waits to be sent again
	sentAt time.Time
	typ    wire.Type
	sends  int // how many links it was given to so far
	// writing counts the links that are writing buf at this moment, which therefore cannot be reused.
	writing int
	acked   bool
	waiting bool // it stands in the session's resend queue
}

// cost is what a frame is charged for.
func (f *frame) cost() int { return cap(f.buf) + frameCost }

// ring holds the frames that were numbered and are not yet acknowledged, by number. The zero value is empty.
type ring struct {
	base  uint64 // the number of the first frame held
	count int    // how many numbers from base on are held or were acknowledged out of order
	slots []*frame
}

// next is the number the next frame gets.
func (r *ring) next() uint64 { return r.base + uint64(r.count) }

// push numbers f and holds it.
func (r *ring) push(f *frame) {
	if r.count == len(r.slots) {
		grown := make([]*frame, max(16, 2*len(r.slots)))
		for n := r.base; n < r.next(); n++ {
			grown[n%uint64(len(grown))] = r.slots[r.index(n)]
		}
		r.slots = grown
	}
	f.seq = r.next()
	wire.PutSeq(f.buf, f.seq)
	r.slots[r.index(f.seq)] = f
	r.count++
}

func (r *ring) index(n uint64) uint64 { return n % uint64(len(r.slots)) }

// get returns the frame with number n, or nil if it is not held.
func (r *ring) get(n uint64) *frame {
	if n < r.base || n >= r.next() {
		return nil
	}
	return r.slots[r.index(n)]
}

// drop stops holding n and moves base past everything that is no longer held.
func (r *ring) drop(n uint64) {
	r.slots[r.index(n)] = nil
	for r.count > 0 && r.slots[r.index(r.base)] == nil {
		r.base++
		r.count--
	}
	if r.count == 0 && len(r.slots) > 256 {
		r.slots = nil // a burst's room is not kept by an idle session
	}
}

// each calls f for every frame held, in order.
func (r *ring) each(f func(*frame)) {
	for n := r.base; n < r.next(); n++ {
		if fr := r.slots[r.index(n)]; fr != nil {
			f(fr)
		}
	}
}
