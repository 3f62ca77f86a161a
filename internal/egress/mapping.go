package egress

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// mapping is one socket.
type mapping struct {
	k     *sink
	inner inner
	sock  *socket
	ins   atomic.Uint32 // packets that came back

	// Under the sink's mu.
	lastOut time.Duration // of Sockets.clock
	outs    uint32
	dnsOnly bool
	okTo    netip.AddrPort // admitted until okUntil
	okUntil time.Duration

	// The reader's own: whom the policy lets in until then.
	okFrom      netip.Addr
	okFromUntil time.Duration

	contactMu sync.Mutex
	contacts  map[netip.Addr]time.Duration // only if filtered by address: when each was last sent to
}

const (
	// dnsTimeout ends a mapping that has carried one question to port 53 and at most one answer. Resolvers use a fresh
	// port for each.
	dnsTimeout = 30 * time.Second
	// echoTimeout is the least RFC 5508 REQ-2 allows.
	echoTimeout = time.Minute
	// maxContacts bounds the hosts that a filtered mapping remembers.
	maxContacts = 256
	// sweepEvery keeps the sweeper from running all the time when mappings expire one by one.
	sweepEvery = time.Second
)

// createLocked opens a mapping, and makes room for it among the session's own by closing the one that has been silent
// longest.
func (k *sink) createLocked(in inner, to netip.AddrPort, now time.Duration) *mapping {
	if k.closed.Load() || !k.creates.Allow() {
		return nil
	}
	if len(k.open) >= k.s.cfg.SessionMappings {
		k.evictLocked()
	}
	if !k.s.reserve() {
		if len(k.open) == 0 {
			return nil
		}
		k.evictLocked()
		if !k.s.reserve() {
			return nil
		}
	}
	m := &mapping{k: k, inner: in}
	if k.s.cfg.FilterByAddress {
		m.contacts = make(map[netip.Addr]time.Duration)
	}
	conn, err := k.s.listen(in)
	if err == nil {
		m.sock, err = newSocket(conn)
	}
	if err != nil {
		k.s.mappings.Add(-1)
		return nil
	}
	if !k.s.goRun(func() {
		m.sock.serve(m)
		k.forget(m)
	}) {
		k.s.mappings.Add(-1)
		conn.Close()
		return nil
	}
	k.open[in] = m
	k.s.counters.opened.Add(1)
	first := k.s.cfg.MappingTimeout
	if in.echo {
		first = min(first, echoTimeout)
	} else if to.Port() == 53 {
		first = min(first, dnsTimeout)
	}
	if due := now + first; k.sweeper == nil || due < k.sweepAt {
		k.sweepByLocked(due, now)
	}
	return m
}

// reserve counts a mapping in, if there may be another one.
func (s *Sockets) reserve() bool {
	if s.mappings.Add(1) > int64(s.cfg.MaxMappings) {
		s.mappings.Add(-1)
		return false
	}
	return true
}

func (k *sink) evictLocked() {
	var oldest *mapping
	for _, m := range k.open {
		if oldest == nil || m.lastOut < oldest.lastOut {
			oldest = m
		}
	}
	k.endLocked(oldest)
}

// endLocked closes m's socket, upon which its goroutine ends.
func (k *sink) endLocked(m *mapping) {
	delete(k.open, m.inner)
	k.s.mappings.Add(-1)
	m.sock.close()
}

// forget ends m, if nothing else has.
func (k *sink) forget(m *mapping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open[m.inner] == m {
		k.endLocked(m)
	}
}

// sweep ends what has been silent too long, and comes again when the next one will have been.
func (k *sink) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sweeper = nil
	now, next := k.s.clock(), time.Duration(-1)
	for _, m := range k.open {
		due := m.lastOut + m.timeoutLocked()
		if due <= now {
			k.endLocked(m)
		} else if next < 0 || due < next {
			next = due
		}
	}
	if next >= 0 {
		k.sweepByLocked(max(next, now+sweepEvery), now)
	}
}

func (k *sink) sweepByLocked(due, now time.Duration) {
	if k.sweeper != nil {
		k.sweeper.Stop()
	}
	k.sweepAt = due
	k.sweeper = time.AfterFunc(due-now, k.sweep)
}

func (m *mapping) timeoutLocked() time.Duration {
	t := m.k.s.cfg.MappingTimeout
	switch {
	case m.inner.echo:
		return min(t, echoTimeout)
	case m.dnsOnly && m.outs == 1 && m.ins.Load() <= 1:
		return min(t, dnsTimeout)
	}
	return t
}

// contact remembers whom a filtered mapping has sent to.
func (m *mapping) contact(to netip.Addr, now time.Duration) {
	if m.contacts == nil {
		return
	}
	m.contactMu.Lock()
	defer m.contactMu.Unlock()
	if _, known := m.contacts[to]; !known && len(m.contacts) >= maxContacts {
		var oldest netip.Addr
		for a, t := range m.contacts {
			if !oldest.IsValid() || t < m.contacts[oldest] {
				oldest = a
			}
		}
		delete(m.contacts, oldest)
	}
	m.contacts[to] = now
}

// expects reports whether from may send to the mapping.
func (m *mapping) expects(from netip.Addr) bool {
	if m.contacts == nil {
		return true
	}
	m.contactMu.Lock()
	defer m.contactMu.Unlock()
	_, ok := m.contacts[from]
	return ok
}

// in takes a datagram from the socket: b is headroom, then what came. It is called from the mapping's goroutine and b
// is the caller's again when it returns.
func (m *mapping) in(b []byte, from netip.AddrPort) {
	k := m.k
	a := from.Addr().Unmap()
	if now := k.s.clock(); a != m.okFrom || now >= m.okFromUntil {
		if why, _ := k.s.policy.refuseAddr(a); why != "" {
			k.s.counters.denied.Add(1)
			return
		}
		m.okFrom, m.okFromUntil = a, now+verdictAge
	}
	if !m.expects(a) {
		k.s.counters.denied.Add(1)
		return
	}
	if m.ins.Load() < 2 {
		m.ins.Add(1)
	}
	var pkt []byte
	var err error
	if m.inner.echo {
		if pkt, err = m.echoReply(b[headroom:], a); err == nil && pkt == nil {
			return
		}
	} else {
		pkt = b[headroom-packet.UDPOverhead(a):]
		err = packet.PutUDP(pkt, netip.AddrPortFrom(a, from.Port()), m.inner.addr)
	}
	if err != nil {
		k.s.counters.dropped.Add(1)
		return
	}
	if !k.closed.Load() {
		k.s.counters.in.Add(1)
		k.send(pkt)
	}
}

// echoReply makes the answer to an echo, with the session's own identifier; nil if it is no answer.
func (m *mapping) echoReply(b []byte, from netip.Addr) ([]byte, error) {
	reply := byte(0)
	if from.Is6() {
		reply = 129
	}
	if len(b) < 8 || b[0] != reply || b[1] != 0 {
		return nil, nil
	}
	seq := uint16(b[6])<<8 | uint16(b[7])
	return packet.AppendEcho(nil, true, from, m.inner.addr.Addr(), m.inner.addr.Port(), seq, b[8:])
}

// lost passes on that a datagram to dest, of which start is what is known, was not delivered. Routers near the gateway stay unseen,
// unless they are asked for: the source of that is dest.
func (m *mapping) lost(dest netip.AddrPort, why loss, start []byte) {
	if !m.expects(dest.Addr()) {
		return
	}
	b, err := m.sent(dest, start)
	if err != nil {
		return
	}
	p, err := packet.Parse(b)
	switch {
	case err != nil:
	case why.at.IsValid():
		m.k.tellEnd(&p, why.at)
	case why.mtu > 0:
		m.k.tellMTU(&p, why.mtu)
	default:
		m.k.tell(&p, why.reason)
	}
}

// sent is the packet by which start was sent to dest.
func (m *mapping) sent(dest netip.AddrPort, start []byte) ([]byte, error) {
	if !m.inner.echo {
		return packet.AppendUDP(nil, m.inner.addr, dest, start)
	}
	if len(start) < 8 {
		return nil, packet.ErrShort
	}
	seq := uint16(start[6])<<8 | uint16(start[7])
	return packet.AppendEcho(nil, false, m.inner.addr.Addr(), dest.Addr(), m.inner.addr.Port(), seq, start[8:])
}

// loss is why a datagram did not get there.
type loss struct {
	reason packet.Reason
	mtu    int        // not 0 for one that was too long
	at     netip.Addr // the router where its hop limit ran out; not valid for another reason
}

// listen opens the socket of a mapping.
func (s *Sockets) listen(in inner) (*net.UDPConn, error) {
	network, source := "udp4", s.cfg.Source4
	if familyOf(in.addr.Addr()) == flow.IPv6 {
		network, source = "udp6", s.cfg.Source6
	}
	if in.echo {
		return openPing(network == "udp6", source, s.cfg.Control)
	}
	at := ":0" // any local address, a random port
	if source.IsValid() {
		at = netip.AddrPortFrom(source, 0).String()
	}
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		reportErrors(c, network == "udp6")
		if s.cfg.Control == nil {
			return nil
		}
		return s.cfg.Control(network, address, c)
	}}
	c, err := lc.ListenPacket(context.Background(), network, at)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}
