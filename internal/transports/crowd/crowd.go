// Package crowd bounds who is at a website: so many in all, and so many of one prefix. When it is full the oldest one goes
// of the prefix that has most, so that a flood from somewhere does not keep out those from elsewhere.
package crowd

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"sync"
)

// How much room there is, about.
const (
	most      = 320
	mostAlike = 48
	spread    = 32
	prefix4   = 24
	prefix6   = 48
)

// Crowd is who is there. Safe for concurrent use.
type Crowd struct {
	most, mostAlike int

	mu     sync.Mutex
	n      int
	closed bool
	from   map[netip.Prefix]map[*Member]struct{}
	last   uint64
	empty  chan struct{} // closed when the last one leaves, if somebody waits for that
}

// Member is one of them.
type Member struct {
	prefix netip.Prefix
	number uint64 // in order of coming
	drop   func() // nil: it cannot be made to go yet
}

// New makes a Crowd for a server of this kind with this key. The numbers are a little different at every one: where
// exactly a server begins to close connections would be something that only gateways share.
func New(kind string, key [sha256.Size]byte) *Crowd {
	h := sha256.Sum256(append([]byte("godwit "+kind+" v1"), key[:]...))
	return &Crowd{most: most + int(h[0])%spread, mostAlike: mostAlike + int(h[1])%spread,
		from: make(map[netip.Prefix]map[*Member]struct{})}
}

// Enter lets one in, for whom another may have to go; nil says that there is no room, or that the crowd is closed. drop
// makes this one go: it is called once at most, must not wait, and may come later by Droppable.
func (c *Crowd) Enter(from net.Addr, drop func()) *Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.last++
	m := &Member{prefix: prefixOf(from), number: c.last, drop: drop}
	alike := c.from[m.prefix]
	switch {
	case len(alike) >= c.mostAlike:
		if !c.dropLocked(alike) {
			return nil
		}
	case c.n >= c.most:
		if !c.dropLocked(c.largestLocked()) {
			return nil
		}
	}
	if c.from[m.prefix] == nil {
		c.from[m.prefix] = make(map[*Member]struct{})
	}
	c.from[m.prefix][m] = struct{}{}
	c.n++
	return m
}

// Droppable says how one is made to go, and reports whether it is still there.
func (c *Crowd) Droppable(m *Member, drop func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.drop = drop
	_, there := c.from[m.prefix][m]
	return there
}

// Many reports whether half of the room is taken.
func (c *Crowd) Many() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n >= c.most/2
}

// largestLocked finds those of the prefix that has most.
func (c *Crowd) largestLocked() (largest map[*Member]struct{}) {
	for _, alike := range c.from {
		if len(alike) > len(largest) {
			largest = alike
		}
	}
	return largest
}

// dropLocked has the oldest one go, and reports whether there was one that could be made to.
func (c *Crowd) dropLocked(alike map[*Member]struct{}) bool {
	var oldest *Member
	for m := range alike {
		if m.drop != nil && (oldest == nil || m.number < oldest.number) {
			oldest = m
		}
	}
	if oldest == nil {
		return false
	}
	c.leaveLocked(oldest)
	oldest.drop()
	return true
}

// Leave takes one out, and reports whether it was there.
func (c *Crowd) Leave(m *Member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaveLocked(m)
}

func (c *Crowd) leaveLocked(m *Member) bool {
	alike := c.from[m.prefix]
	if _, there := alike[m]; !there {
		return false
	}
	if delete(alike, m); len(alike) == 0 {
		delete(c.from, m.prefix)
	}
	c.n--
	if c.n == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
	return true
}

// Gone is closed when nobody is there. It is for one caller, when nobody comes any more.
func (c *Crowd) Gone() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	empty := make(chan struct{})
	if c.n == 0 {
		close(empty)
	} else {
		c.empty = empty
	}
	return empty
}

// Close makes all of them go that can be made to, and lets nobody in any more.
func (c *Crowd) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, alike := range c.from {
		for m := range alike {
			if m.drop != nil {
				m.drop()
			}
		}
	}
	c.from, c.n = nil, 0
}

func prefixOf(a net.Addr) netip.Prefix {
	var addr netip.Addr
	switch a := a.(type) {
	case *net.TCPAddr:
		addr = a.AddrPort().Addr()
	case *net.UDPAddr:
		addr = a.AddrPort().Addr()
	default:
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := prefix4
	if addr.Is6() {
		bits = prefix6
	}
	p, _ := addr.Prefix(bits)
	return p
}
