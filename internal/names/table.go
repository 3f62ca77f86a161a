package names

import (
	"container/list"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

const (
	// maxGiven bounds each table.
	maxGiven = 16384
	// keepGiven is how long after its TTL an address is still taken for a name: applications keep them longer than told.
	keepGiven = 5 * time.Minute
)

// table remembers names by address; the one used longest ago goes first. Safe for concurrent use.
type table struct {
	most int

	mu     sync.Mutex
	byAddr map[netip.Addr]*list.Element // of *owner
	order  list.List                    // the latest used first
}

type owner struct {
	addr  netip.Addr
	name  string
	until time.Time
}

func newTable(most int) *table {
	return &table{most: most, byAddr: make(map[netip.Addr]*list.Element)}
}

func (t *table) put(addr netip.Addr, name string, keep time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := time.Now().Add(keep)
	if el := t.byAddr[addr]; el != nil {
		o := el.Value.(*owner)
		if o.name == name && until.Before(o.until) {
			until = o.until
		}
		o.name, o.until = name, until
		t.order.MoveToFront(el)
		return
	}
	if t.order.Len() >= t.most {
		delete(t.byAddr, t.order.Remove(t.order.Back()).(*owner).addr)
	}
	t.byAddr[addr] = t.order.PushFront(&owner{addr, name, until})
}

func (t *table) get(addr netip.Addr) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	el := t.byAddr[addr]
	if el == nil {
		return "", false
	}
	o := el.Value.(*owner)
	if !time.Now().Before(o.until) {
		t.order.Remove(el)
		delete(t.byAddr, addr)
		return "", false
	}
	t.order.MoveToFront(el)
	return o.name, true
}

// comesFirst reports whether a name is one that an address may stand for. A search list's guesses are none: each would
// be right.
func comesFirst(name string) bool {
	return !dnsmessage.Inside(name) && !dnsmessage.Below(name, "arpa") && !strings.ContainsAny(name, `\*/`)
}

// first gives out addresses that stand for names. An address that was given out keeps its name, whatever its TTL, until
// the place is needed. Safe for concurrent use.
type first struct {
	seed   maphash.Seed
	ranges [2]addrRange // of IPv4 and IPv6
}

// addrRange is the addresses of one prefix.
type addrRange struct {
	prefix netip.Prefix // invalid: none
	size   uint64
	most   int

	mu     sync.Mutex
	byName map[string]*list.Element // of *owner
	byAddr map[netip.Addr]*list.Element
	order  list.List
}

const (
	maxHostBits = 32
	minHostBits = 3
)

func newFirst(prefixes []netip.Prefix) *first {
	f := &first{seed: maphash.MakeSeed()}
	for _, p := range prefixes {
		r := &f.ranges[0]
		if p.Addr().Is6() {
			r = &f.ranges[1]
		}
		bits := p.Addr().BitLen() - p.Bits()
		if r.prefix.IsValid() || !p.IsValid() || bits < minHostBits {
			continue
		}
		r.prefix, r.size = p.Masked(), 1<<min(bits, maxHostBits)
		r.most = int(min(maxGiven, r.size/4)) // so that a free one is soon found
		r.byName, r.byAddr = make(map[string]*list.Element), make(map[netip.Addr]*list.Element)
	}
	return f
}

func (f *first) rangeOf(six bool) *addrRange {
	if six {
		return &f.ranges[1]
	}
	return &f.ranges[0]
}

func (f *first) has(a netip.Addr) bool {
	r := f.rangeOf(a.Is6())
	return r.prefix.IsValid() && r.prefix.Contains(a)
}

func (f *first) nameOf(a netip.Addr) (string, bool) {
	if !f.has(a) {
		return "", false
	}
	r := f.rangeOf(a.Is6())
	r.mu.Lock()
	defer r.mu.Unlock()
	el := r.byAddr[a]
	if el == nil {
		return "", false
	}
	r.order.MoveToFront(el)
	return el.Value.(*owner).name, true
}

// addr is the address that stands for a name.
func (f *first) addr(name string, six bool) (netip.Addr, bool) {
	r := f.rangeOf(six)
	if !r.prefix.IsValid() {
		return netip.Addr{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if el := r.byName[name]; el != nil {
		r.order.MoveToFront(el)
		return el.Value.(*owner).addr, true
	}
	if r.order.Len() >= r.most {
		o := r.order.Remove(r.order.Back()).(*owner)
		delete(r.byName, o.name)
		delete(r.byAddr, o.addr)
	}
	for n := maphash.String(f.seed, name); ; n++ {
		a := r.nth(n % r.size)
		if last := a.As16()[15]; last == 0 || last == 255 || r.byAddr[a] != nil {
			continue // in IPv4 such as these may be networks and broadcasts to somebody
		}
		el := r.order.PushFront(&owner{addr: a, name: name})
		r.byName[name], r.byAddr[a] = el, el
		return a, true
	}
}

// nth is an address of the range.
func (r *addrRange) nth(n uint64) netip.Addr {
	if r.prefix.Addr().Is4() {
		b := r.prefix.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(n))
		return netip.AddrFrom4(b)
	}
	b := r.prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])|n)
	return netip.AddrFrom16(b)
}
