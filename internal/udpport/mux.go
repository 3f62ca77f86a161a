// Package udpport is the client's side of UDP: it opens ports at the tunnel's address and turns their datagrams into
// the IP packets that cross the session, and back. A Mux implements flow.PacketOpener.
//
//	port.WriteTo ── IP packet ──> Config.Send ══ session ══ gateway
//	port.ReadFrom <── queue <── Mux.Deliver <══ session ══ gateway
//
// A port is open at both of the tunnel's addresses, and stays open when those change with a new session: only its
// packets then come from elsewhere. Anything may be lost, as in UDP: with no session, and with a queue that is full.
package udpport

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// Config says how a Mux reaches the session, and how much it may hold.
type Config struct {
	// Addr4 and Addr6 are the tunnel's addresses; the zero value of either says that there is none (yet).
	Addr4, Addr6 netip.Addr
	// Send puts one IP packet into the session. It must not block, may be called concurrently, and does not keep the
	// slice. Its error is returned by the port's WriteTo.
	Send func(packet []byte) error
	// MaxPorts bounds the open ports; 0 means 4096, and 16384 is the most.
	MaxPorts int
	// Queue bounds the datagrams that wait in one port; 0 means 128.
	Queue int
	// MaxQueued bounds the bytes that wait in all ports; 0 means 8 MiB.
	MaxQueued int
}

// Mux owns the ports. Safe for concurrent use; it starts no goroutines.
type Mux struct {
	send     func([]byte) error
	maxPorts int
	queue    int
	maxBytes int64

	addrs   atomic.Pointer[addrs]
	queued  atomic.Int64 // bytes of buffers held in queues
	dropped atomic.Uint64
	slabs   sync.Pool // of *[slabSize]byte, for datagrams that wait
	packets sync.Pool // of *[]byte, for packets being built, which send does not keep

	mu     sync.RWMutex
	ports  map[uint16]*port
	closed bool
}

type addrs struct{ v4, v6 netip.Addr }

// Ports are drawn from where no service is expected, and from so many that a packet meant for a port's last owner
// hardly ever meets the next one.
const (
	firstPort = 1024
	portCount = 65536 - firstPort
	mostPorts = 16384 // a quarter, so that drawing one finds a free one soon
)

var _ flow.PacketOpener = (*Mux)(nil)

// New makes a Mux.
func New(c Config) *Mux {
	or := func(v, def int) int {
		if v > 0 {
			return v
		}
		return def
	}
	m := &Mux{
		send:     c.Send,
		maxPorts: min(or(c.MaxPorts, 4096), mostPorts),
		queue:    or(c.Queue, 128),
		maxBytes: int64(or(c.MaxQueued, 8<<20)),
		slabs:    sync.Pool{New: func() any { return new([slabSize]byte) }},
		packets:  sync.Pool{New: func() any { return new([]byte) }},
		ports:    make(map[uint16]*port),
	}
	m.SetAddrs(c.Addr4, c.Addr6)
	return m
}

// SetAddrs changes the tunnel's addresses, as when a new session begins. The zero value of either closes that way.
func (m *Mux) SetAddrs(addr4, addr6 netip.Addr) {
	m.addrs.Store(&addrs{v4: addr4.Unmap(), v6: addr6})
}

// ListenPacket opens a random free port. The result's addresses are *net.UDPAddr; it also has the methods
// ReadFromUDPAddrPort and WriteToUDPAddrPort of a *net.UDPConn, which do not allocate.
func (m *Mux) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, opError("listen", net.ErrClosed)
	}
	if len(m.ports) >= m.maxPorts {
		return nil, opError("listen", flow.Errorf(flow.CodeBusy, "%d UDP ports are open, the most allowed", m.maxPorts))
	}
	number := uint16(firstPort + rand.IntN(portCount))
	for m.ports[number] != nil {
		number = uint16(firstPort + rand.IntN(portCount))
	}
	p := newPort(m, number)
	m.ports[number] = p
	return p, nil
}

// Deliver takes an IP packet from the session and queues it at its port. It reports false where there is no such port; then
// the packet may be somebody else's. It never blocks and does not keep the slice.
func (m *Mux) Deliver(pkt []byte) bool {
	m.mu.RLock()
	none := len(m.ports) == 0
	m.mu.RUnlock()
	if none {
		m.dropped.Add(1)
		return false
	}
	p, err := packet.Parse(pkt)
	if err != nil || p.Proto != packet.ProtoUDP {
		m.dropped.Add(1)
		return false
	}
	u, err := p.UDP()
	if a := m.addrs.Load(); err != nil || p.Dst != a.v4 && p.Dst != a.v6 {
		m.dropped.Add(1)
		return false
	}
	m.mu.RLock()
	to := m.ports[u.Dst.Port()]
	m.mu.RUnlock()
	if to == nil || !to.push(u.Src, u.Payload) {
		m.dropped.Add(1)
	}
	return to != nil
}

// Stats counts ports and packets, never who they belong to.
type Stats struct {
	Ports   int    // open now
	Queued  int64  // bytes that wait now
	Dropped uint64 // packets from the session that reached no port
}

// Stats returns the counters as they are now.
func (m *Mux) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Stats{Ports: len(m.ports), Queued: m.queued.Load(), Dropped: m.dropped.Load()}
}

// Close closes every port; no more can be opened.
func (m *Mux) Close() error {
	m.mu.Lock()
	ports := m.ports
	m.ports, m.closed = nil, true
	m.mu.Unlock()
	for _, p := range ports {
		p.shut()
	}
	return nil
}

func (m *Mux) forget(p *port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ports[p.number] == p {
		delete(m.ports, p.number)
	}
}

// opError has no address: an error is something that gets logged, and a destination is not.
func opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Err: err}
}
