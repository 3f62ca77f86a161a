package proxy

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// names sends one association's datagrams that are addressed by name. A datagram waits for its name's first lookup,
// the ones after it go straight to the address found. As long as a name is used its address stays, for a name that
// changes its mind would tear a flow in two; only nameLongest makes sure a host that moved is found again.
//
// Its lookups run beside the caller, so that a slow name delays nobody else. Safe for concurrent use, but wait must not
// run beside send.
type names struct {
	resolver flow.Resolver
	// out sends payload to an address; it must not block.
	out func(payload []byte, to netip.AddrPort) error
	// dropped is told of each datagram given up.
	dropped func()

	running sync.WaitGroup

	mu      sync.Mutex
	byName  map[string]*lookup
	pending int // lookups under way
	held    int // payload bytes waiting
}

// lookup is what is known of one name.
type lookup struct {
	addr  netip.Addr // once found
	done  bool
	born  time.Time
	used  time.Time
	queue []heldDatagram // until done
}

type heldDatagram struct {
	payload []byte
	port    uint16
}

const (
	maxNames       = 64        // remembered per association
	maxLookups     = 16        // under way per association
	maxHeld        = 128 << 10 // bytes waiting per association
	maxHeldPerName = 16        // datagrams: an application's first burst
	nameIdle       = 30 * time.Second
	nameLongest    = 5 * time.Minute
	nameFailed     = 2 * time.Second // a failed lookup is not repeated for so long
	lookupTimeout  = 10 * time.Second
)

// send sends payload to name, now or when its address is known, or drops it. It does not keep payload.
func (n *names) send(ctx context.Context, name string, port uint16, payload []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	l := n.byName[name]
	if l != nil && l.done && l.stale(now) {
		delete(n.byName, name)
		l = nil
	}
	if l == nil {
		if n.pending >= maxLookups || !n.roomLocked(now) {
			n.dropped()
			return
		}
		l = &lookup{born: now}
		if n.byName == nil {
			n.byName = make(map[string]*lookup)
		}
		n.byName[name] = l
		n.pending++
		n.running.Go(func() { n.look(ctx, name, l) })
	}
	l.used = now
	switch {
	case l.addr.IsValid():
		if n.out(payload, netip.AddrPortFrom(l.addr, port)) != nil {
			n.dropped()
		}
	case l.done, len(l.queue) >= maxHeldPerName, n.held+len(payload) > maxHeld:
		n.dropped()
	default:
		n.held += len(payload)
		l.queue = append(l.queue, heldDatagram{append([]byte(nil), payload...), port})
	}
}

// look finds l's address and sends what waited for it.
func (n *names) look(ctx context.Context, name string, l *lookup) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := n.resolver.Resolve(ctx, name)

	if err != nil {
		addrs = nil
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending--
	l.done, l.born = true, time.Now()
	l.used = l.born
	queue := l.queue
	l.queue = nil
	// Sent under the lock, so that no later datagram overtakes them.
	for _, d := range queue {
		n.held -= len(d.payload)
		if !n.sendHeldLocked(l, &addrs, d) {
			n.dropped()
		}
	}
	if !l.addr.IsValid() && len(addrs) > 0 {
		l.addr = addrs[0].Unmap() // nothing had room to wait
	}
}

// sendHeldLocked sends d to l's address. If that is not settled yet it becomes the first of addrs that the tunnel has an
// address of the same family for.
func (n *names) sendHeldLocked(l *lookup, addrs *[]netip.Addr, d heldDatagram) bool {
	if l.addr.IsValid() {
		return n.out(d.payload, netip.AddrPortFrom(l.addr, d.port)) == nil
	}
	for ; len(*addrs) > 0; *addrs = (*addrs)[1:] {
		to := netip.AddrPortFrom((*addrs)[0].Unmap(), d.port)
		err := n.out(d.payload, to)
		if flow.CodeOf(err) != flow.CodeNetUnreach {
			l.addr = to.Addr()
			return err == nil
		}
	}
	return false
}

// stale reports whether a finished lookup should be repeated.
func (l *lookup) stale(now time.Time) bool {
	if !l.addr.IsValid() {
		return now.Sub(l.born) >= nameFailed
	}
	return now.Sub(l.used) >= nameIdle || now.Sub(l.born) >= nameLongest
}

// roomLocked makes room for one more name, at the expense of the one least recently used, and reports whether there is.
func (n *names) roomLocked(now time.Time) bool {
	if len(n.byName) < maxNames {
		return true
	}
	var oldest string
	var since time.Duration = -1
	for name, l := range n.byName {
		if l.done && now.Sub(l.used) > since {
			oldest, since = name, now.Sub(l.used)
		}
	}
	if since < 0 {
		return false
	}
	delete(n.byName, oldest)
	return true
}

// wait returns when no lookup is under way.
func (n *names) wait() { n.running.Wait() }
