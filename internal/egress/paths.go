package egress

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// Paths tells which of a session's IPv6 packets have to go on in fragments. A client puts together what comes in fragments, and
// that it did does not show in what crosses the session; but who sends a packet longer than it was told to has sent it so. The
// zero Paths is ready. Safe for concurrent use.
type Paths struct {
	learned atomic.Bool
	mu      sync.Mutex
	mtu     map[netip.Addr]int // of ways that are narrower than clientMTU
}

const (
	// A client's TUN has an MTU of 1500. Every way carries fragments of smallMTU.
	clientMTU = 1500
	smallMTU  = 1280
	// mostPaths bounds what is remembered. Who is forgotten is told again.
	mostPaths = 256
)

// Learn remembers that the session was told how long packets to an address may be.
func (w *Paths) Learn(to netip.Addr, mtu int) {
	if mtu < smallMTU || mtu >= clientMTU || to.Is4() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mtu == nil {
		w.mtu = make(map[netip.Addr]int)
	}
	if _, known := w.mtu[to]; !known && len(w.mtu) >= mostPaths {
		clear(w.mtu)
	}
	w.mtu[to] = mtu
	w.learned.Store(true)
}

// Fragments is how long p's fragments may be, if it is to go on in fragments, and 0 if not. An IPv4 packet says so itself, with
// DontFragment.
func (w *Paths) Fragments(p *packet.Packet) int {
	if p.Src.Is4() {
		return 0
	}
	size := p.Len()
	if w.learned.Load() {
		w.mu.Lock()
		mtu := w.mtu[p.Dst]
		w.mu.Unlock()
		if mtu > 0 && size > mtu {
			return mtu
		}
	}
	if size > clientMTU {
		return smallMTU
	}
	return 0
}
