package udpport

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// port is one open UDP port.
type port struct {
	mux    *Mux
	number uint16

	mu      sync.Mutex
	changed sync.Cond // the queue has grown, the port has closed, or a read deadline came or moved
	closed  bool
	queue   []datagram // a ring that grows up to mux.queue, so that a quiet port is small
	first   int
	count   int
	readBy  time.Time // zero: no deadline
	writeBy time.Time
	timer   *time.Timer // wakes readers at readBy
}

type datagram struct {
	from netip.AddrPort
	data []byte
	slab *[slabSize]byte // where data is, if it came from the pool
}

func (d *datagram) size() int64 {
	if d.slab != nil {
		return slabSize
	}
	return int64(cap(d.data))
}

// slabSize holds any datagram that fits an ordinary MTU; longer ones get a buffer of their own.
const slabSize = 2048

var _ net.PacketConn = (*port)(nil)

func newPort(m *Mux, number uint16) *port {
	p := &port{mux: m, number: number}
	p.changed.L = &p.mu
	return p
}

// push queues a copy of a datagram, and reports whether there was room.
func (p *port) push(from netip.AddrPort, payload []byte) bool {
	d := datagram{from: from}
	if len(payload) <= slabSize {
		d.slab = p.mux.slabs.Get().(*[slabSize]byte)
		d.data = d.slab[:copy(d.slab[:], payload)]
	} else {
		d.data = append(d.data, payload...)
	}
	size := d.size()
	p.mu.Lock()
	ok := !p.closed && p.count < p.mux.queue
	if ok && p.mux.queued.Add(size) > p.mux.maxBytes {
		p.mux.queued.Add(-size)
		ok = false
	}
	if !ok {
		p.mu.Unlock()
		p.mux.free(&d)
		return false
	}
	if p.count == len(p.queue) {
		p.growLocked()
	}
	p.queue[(p.first+p.count)%len(p.queue)] = d
	p.count++
	p.mu.Unlock()
	p.changed.Signal()
	return true
}

func (p *port) growLocked() {
	bigger := make([]datagram, min(max(4, 2*len(p.queue)), p.mux.queue))
	for i := range p.count {
		bigger[i] = p.queue[(p.first+i)%len(p.queue)]
	}
	p.queue, p.first = bigger, 0
}

func (m *Mux) free(d *datagram) {
	if d.slab != nil {
		m.slabs.Put(d.slab)
	}
	*d = datagram{}
}

// ReadFromUDPAddrPort waits for a datagram and copies it to b; what does not fit is lost.
func (p *port) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	p.mu.Lock()
	for {
		switch {
		case p.closed:
			p.mu.Unlock()
			return 0, netip.AddrPort{}, opError("read", net.ErrClosed)
		case !p.readBy.IsZero() && !time.Now().Before(p.readBy):
			p.mu.Unlock()
			return 0, netip.AddrPort{}, opError("read", os.ErrDeadlineExceeded)
		case p.count == 0:
			p.changed.Wait()
			continue
		}
		d := p.queue[p.first]
		p.queue[p.first] = datagram{}
		p.first = (p.first + 1) % len(p.queue)
		p.count--
		p.mux.queued.Add(-d.size())
		p.mu.Unlock()
		n, from := copy(b, d.data), d.from
		p.mux.free(&d)
		return n, from, nil
	}
}

// ReadFrom is ReadFromUDPAddrPort with a *net.UDPAddr.
func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.ReadFromUDPAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteToUDPAddrPort sends b to addr, from the tunnel's address of the same IP version.
func (p *port) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	p.mu.Lock()
	closed, late := p.closed, !p.writeBy.IsZero() && !time.Now().Before(p.writeBy)
	p.mu.Unlock()
	switch {
	case closed:
		return 0, opError("write", net.ErrClosed)
	case late:
		return 0, opError("write", os.ErrDeadlineExceeded)
	}
	to := addr.Addr().Unmap()
	if !to.IsValid() || to.Zone() != "" || addr.Port() == 0 {
		return 0, opError("write", flow.Errorf(flow.CodeBadTarget, "not an address that a packet can be sent to"))
	}
	a := p.mux.addrs.Load()
	from := a.v4
	if to.Is6() {
		from = a.v6
	}
	if !from.IsValid() {
		return 0, opError("write", flow.Errorf(flow.CodeNetUnreach, "the tunnel has no address of that IP version"))
	}
	buf := p.mux.packets.Get().(*[]byte)
	defer p.mux.packets.Put(buf)
	pkt, err := packet.AppendUDP((*buf)[:0], netip.AddrPortFrom(from, p.number), netip.AddrPortFrom(to, addr.Port()), b)
	*buf = pkt[:0]
	if err == nil {
		// Who writes here is not told that a datagram was too long for a way.
		packet.AllowFragments(pkt, uint16(rand.Uint32()))
		err = p.mux.send(pkt)
	}
	if err != nil {
		return 0, opError("write", err)
	}
	return len(b), nil
}

// WriteTo is WriteToUDPAddrPort for a *net.UDPAddr.
func (p *port) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.UDPAddr)
	if !ok || a == nil {
		return 0, opError("write", flow.Errorf(flow.CodeBadTarget, "a %T is not a UDP address", addr))
	}
	return p.WriteToUDPAddrPort(b, a.AddrPort())
}

// LocalAddr is the port at the tunnel's IPv4 address, or at its IPv6 address if it has no other.
func (p *port) LocalAddr() net.Addr {
	a := p.mux.addrs.Load()
	switch {
	case a.v4.IsValid():
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.v4, p.number))
	case a.v6.IsValid():
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.v6, p.number))
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), p.number))
}

// Close unblocks readers, drops what waits, and frees the port's number. A second Close does nothing.
func (p *port) Close() error {
	p.mux.forget(p)
	p.shut()
	return nil
}

func (p *port) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for i := range p.count {
		d := &p.queue[(p.first+i)%len(p.queue)]
		p.mux.queued.Add(-d.size())
		p.mux.free(d)
	}
	p.queue, p.first, p.count = nil, 0, 0
	p.changed.Broadcast()
}

// SetDeadline sets both deadlines. A write never waits: its deadline only refuses late ones.
func (p *port) SetDeadline(t time.Time) error {
	return p.set(t, true, true)
}

// SetReadDeadline bounds reads, those under way too; the zero time lifts the bound.
func (p *port) SetReadDeadline(t time.Time) error {
	return p.set(t, true, false)
}

// SetWriteDeadline makes writes after t fail.
func (p *port) SetWriteDeadline(t time.Time) error {
	return p.set(t, false, true)
}

func (p *port) set(t time.Time, read, write bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return opError("set", net.ErrClosed)
	}
	if !t.IsZero() {
		t = time.Now().Add(time.Until(t)) // of this machine's monotonic clock, like the timer
	}
	if write {
		p.writeBy = t
	}
	if !read {
		return nil
	}
	p.readBy = t
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if !t.IsZero() {
		p.timer = time.AfterFunc(time.Until(t), p.changed.Broadcast)
	}
	p.changed.Broadcast()
	return nil
}
