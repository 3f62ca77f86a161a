package https

import (
	"crypto/sha256"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
)

// visitors are the website's connections, as the HTTP server sees them, from the moment TCP's handshake is done until
// they end or turn out to be links. There is room for so many in all and for so many of one prefix; when it is full the
// oldest one goes of the prefix that has most, so that a flood from somewhere does not keep out those from elsewhere.
type visitors struct {
	net.Listener
	congestion      string
	most, mostAlike int

	mu     sync.Mutex
	n      int
	closed bool
	from   map[netip.Prefix]map[*visitor]struct{}
	last   uint64
	empty  chan struct{} // closed when the last one leaves, if somebody waits for that
}

// visitor is one of them. It is TLS's connection.
type visitor struct {
	*pipe
	all    *visitors
	prefix netip.Prefix
	number uint64 // in order of coming
}

// How much room there is. A visitor that has spoken HTTP/2 and sits there takes some 45 KiB, all of them Go's own.
const (
	mostVisitors   = 320
	mostAlike      = 48
	prefix4        = 24
	prefix6        = 48
	visitorsSpread = 32
)

// Bounded bounds a listener's connections as the website's are.
func Bounded(l net.Listener, key [sha256.Size]byte) net.Listener {
	return newVisitors(l, SystemCongestion, key)
}

// newVisitors makes the numbers a little different at every gateway: where exactly a server begins to close
// connections would be something that only gateways share.
func newVisitors(l net.Listener, congestion string, key [sha256.Size]byte) *visitors {
	h := sha256.Sum256(append([]byte("godwit visitors v1"), key[:]...))
	return &visitors{Listener: l, congestion: congestion, most: mostVisitors + int(h[0])%visitorsSpread,
		mostAlike: mostAlike + int(h[1])%visitorsSpread, from: make(map[netip.Prefix]map[*visitor]struct{})}
}

// Accept implements net.Listener.
func (v *visitors) Accept() (net.Conn, error) {
	c, err := v.Listener.Accept()
	if err != nil {
		return nil, err
	}
	Tune(c, v.congestion)
	one := &visitor{pipe: &pipe{Conn: c}, all: v, prefix: prefixOf(c.RemoteAddr())}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	v.last++
	one.number = v.last
	alike := v.from[one.prefix]
	if len(alike) >= v.mostAlike {
		v.dropLocked(alike)
	} else if v.n >= v.most {
		v.dropLocked(v.crowdLocked())
	}
	if v.from[one.prefix] == nil {
		v.from[one.prefix] = make(map[*visitor]struct{})
	}
	v.from[one.prefix][one] = struct{}{}
	v.n++
	return one, nil
}

// crowdLocked finds those of the prefix that has most.
func (v *visitors) crowdLocked() (most map[*visitor]struct{}) {
	for _, alike := range v.from {
		if len(alike) > len(most) {
			most = alike
		}
	}
	return most
}

// dropLocked closes the oldest one.
func (v *visitors) dropLocked(alike map[*visitor]struct{}) {
	var oldest *visitor
	for one := range alike {
		if oldest == nil || one.number < oldest.number {
			oldest = one
		}
	}
	v.leaveLocked(oldest)
	oldest.pipe.Close()
}

// leave takes one out, and reports whether it was there.
func (v *visitors) leave(one *visitor) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.leaveLocked(one)
}

// leave takes a connection out that is a visitor no more; it is closed by whoever has it now.
func leave(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	one, ok := c.(*visitor)
	if !ok {
		return
	}
	one.all.leave(one)
	if tcp, ok := one.pipe.Conn.(*net.TCPConn); ok {
		tcp.SetKeepAlive(false) // the session probes its links itself, and not by the clock
	}
}

func (v *visitors) leaveLocked(one *visitor) bool {
	alike := v.from[one.prefix]
	if _, there := alike[one]; !there {
		return false
	}
	if delete(alike, one); len(alike) == 0 {
		delete(v.from, one.prefix)
	}
	v.n--
	if v.n == 0 && v.empty != nil {
		close(v.empty)
		v.empty = nil
	}
	return true
}

// gone is closed when nobody is there. It is for one caller, when nobody comes any more.
func (v *visitors) gone() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	empty := make(chan struct{})
	if v.n == 0 {
		close(empty)
	} else {
		v.empty = empty
	}
	return empty
}

// end closes the listener and the connections. The listener's own Close, which the HTTP server calls when it can accept
// no more, leaves them be.
func (v *visitors) end() error {
	err := v.Listener.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for _, alike := range v.from {
		for one := range alike {
			one.pipe.Close()
		}
	}
	v.from, v.n = nil, 0
	return err
}

// Close implements net.Conn.
func (one *visitor) Close() error {
	one.all.leave(one)
	return one.pipe.Close()
}

func prefixOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	bits := prefix4
	if addr.Is6() {
		bits = prefix6
	}
	p, _ := addr.WithZone("").Prefix(bits)
	return p
}
