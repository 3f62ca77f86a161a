package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// sink is one session's way out for packets: a NAT made of sockets.
//
// An inner address and port has one mapping, a socket at a random port, whatever it sends to (endpoint-independent
// mapping, RFC 4787 REQ-1), so two peers see the same address of it. A mapping ends when it has sent nothing for a
// while: only what leaves counts, so that nobody outside can keep one open. The session ends all of its own.
type sink struct {
	s       *Sockets
	send    func([]byte)
	creates *rate.Limiter // new mappings: each costs more than a packet
	tells   *rate.Limiter // ICMP errors
	closed  atomic.Bool   // set under mu
	paths   Paths

	mu      sync.Mutex
	open    map[inner]*mapping
	sweeper *time.Timer // armed for sweepAt while there are mappings
	sweepAt time.Duration
}

// inner is what a mapping belongs to: a UDP port of the session, or an ICMP echo's identifier in a port's place.
type inner struct {
	addr netip.AddrPort
	echo bool
}

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
	// A session that opens mappings faster than this in the long run scans, or is up to no good.
	createsPerSecond = 100
	// traceroute asks for a hundred at once.
	tellsPerSecond = 100
	// fewHops is what traceroute sends packets with. Every system begins with more, and has them still at the gateway.
	fewHops = 32
	// verdictAge is how long the policy's yes to one destination is good for, in a run of packets to it.
	verdictAge = time.Second
	// maxContacts bounds the hosts that a filtered mapping remembers.
	maxContacts = 256
	// headroom is for the longest headers before a datagram; a socket reads behind it and the packet is made in place.
	headroom    = 48
	maxDatagram = headroom + 65536
)

// Packets gives one session's packets a way out. Datagrams are answered from wherever they were sent to; what the
// policy refuses, and what the kernel says cannot be reached, is answered with an ICMP error, at a bounded rate.
//
// The caller has checked that the packets' source is the session's own address. send is called from several goroutines,
// and for an ICMP error from inside WritePacket; one call may still be under way when Close returns.
func (s *Sockets) Packets(send func(packet []byte)) flow.PacketSink {
	k := &sink{
		s: s, send: send,
		creates: rate.NewLimiter(createsPerSecond, max(createsPerSecond, s.cfg.SessionMappings)),
		tells:   rate.NewLimiter(tellsPerSecond, tellsPerSecond),
		open:    make(map[inner]*mapping),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		k.closed.Store(true)
	} else {
		s.sinks[k] = struct{}{}
	}
	return k
}

// WritePacket sends one packet of the session's on its way, or drops it.
func (k *sink) WritePacket(b []byte) {
	p, err := packet.Parse(b)
	if err != nil {
		k.s.counters.dropped.Add(1)
		return
	}
	switch p.Proto {
	case packet.ProtoUDP:
		if u, err := p.UDP(); err == nil && u.Src.Port() != 0 {
			k.out(&p, inner{addr: u.Src}, u.Dst, u.Payload)
			return
		}
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if m, err := p.ICMP(); err == nil && m.Kind == packet.EchoRequest && canPing {
			k.out(&p, inner{netip.AddrPortFrom(p.Src, m.ID), true}, netip.AddrPortFrom(p.Dst, 0), p.Payload)
			return
		}
	}
	k.s.counters.dropped.Add(1)
}

// admit reports whether p may go to to, and tells the session if not.
func (k *sink) admit(p *packet.Packet, in inner, to netip.AddrPort) bool {
	var fe *flow.Error
	if in.echo {
		fe = k.s.admitAddr(to.Addr())
	} else {
		fe = k.s.admit(to)
	}
	if k.s.upstream != nil && fe == nil {
		fe = errNoUDP
	}
	if fe == nil {
		return true
	}
	k.s.counters.denied.Add(1)
	if fe.Code == flow.CodeNetUnreach {
		k.tell(p, packet.NoRoute)
	} else {
		k.tell(p, packet.Prohibited)
	}
	return false
}

var errNoUDP = flow.Errorf(flow.CodeDenied, "an upstream proxy carries no UDP")

// out sends payload from in's mapping.
func (k *sink) out(p *packet.Packet, in inner, to netip.AddrPort, payload []byte) {
	how, ok := k.how(p, in)
	if !ok {
		return
	}
	now := k.s.clock()
	k.mu.Lock()
	m := k.open[in]
	if m == nil || m.okTo != to || now >= m.okUntil {
		k.mu.Unlock()
		if !k.admit(p, in, to) {
			return
		}
		k.mu.Lock()
		if m = k.open[in]; m == nil {
			m = k.createLocked(in, to, now)
		}
		if m == nil {
			k.mu.Unlock()
			k.s.counters.refused.Add(1)
			return
		}
		m.okTo, m.okUntil = to, now+verdictAge
	}
	m.lastOut = now
	m.dnsOnly = (m.dnsOnly || m.outs == 0) && to.Port() == 53
	if m.outs < 2 {
		m.outs++
	}
	k.mu.Unlock()
	m.contact(to.Addr(), now)

	switch err := m.sock.send(payload, to, how); {
	case err == nil:
		k.s.counters.out.Add(1)
		return
	case how.whole && errors.Is(err, syscall.EMSGSIZE):
		k.tellMTU(p, k.s.pathMTU(to))
	case errors.Is(err, syscall.ENETUNREACH):
		k.tell(p, packet.NoRoute)
	case errors.Is(err, syscall.EHOSTUNREACH):
		k.tell(p, packet.NoHost)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		k.tell(p, packet.Prohibited)
	}
	k.s.counters.dropped.Add(1)
}

// how is the way a socket is to send something.
type how struct {
	whole bool  // no router may fragment it
	hops  uint8 // after so many it ends; 0 leaves that to the system
}

// how is the way p is to be sent. It reports false if its way ends here. What a session's system begins to count hops at is nobody's
// affair, so only few of them count.
func (k *sink) how(p *packet.Packet, in inner) (h how, ok bool) {
	h.whole = !in.echo && p.DontFragment && k.paths.Fragments(p) == 0
	if p.HopLimit >= fewHops {
		return h, true
	}
	h.hops = p.HopLimit
	if k.s.cfg.Router {
		if h.hops <= 1 {
			hop := Hop4
			if p.Src.Is6() {
				hop = Hop6
			}
			k.tellEnd(p, hop)
			return h, false
		}
		h.hops--
	}
	return h, h.hops > 0
}

// tell sends the session an ICMP error about p, as if from where p was going.
func (k *sink) tell(p *packet.Packet, why packet.Reason) {
	if k.closed.Load() || !k.tells.Allow() {
		return
	}
	var buf [1280]byte
	if b, ok := packet.AppendUnreachable(buf[:0], p.Dst, why, p); ok {
		k.send(b)
	}
}

// tellMTU tells the session that p is too long for its way, where packets may have mtu bytes.
func (k *sink) tellMTU(p *packet.Packet, mtu int) {
	if mtu == 0 || mtu >= p.Len() || k.closed.Load() || !k.tells.Allow() {
		return
	}
	var buf [1280]byte
	if b, ok := packet.AppendTooBig(buf[:0], p.Dst, mtu, p); ok {
		k.send(b)
		k.paths.Learn(p.Dst, mtu)
	}
}

// tellEnd tells the session that p got as far as to a router, and no further.
func (k *sink) tellEnd(p *packet.Packet, at netip.Addr) {
	if k.closed.Load() || !k.tells.Allow() {
		return
	}
	var buf [1280]byte
	if b, ok := packet.AppendTimeExceeded(buf[:0], at, p); ok {
		k.send(b)
	}
}

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

// Close ends the session's mappings: nothing of it stays.
func (k *sink) Close() error {
	k.shut()
	k.s.mu.Lock()
	delete(k.s.sinks, k)
	k.s.mu.Unlock()
	return nil
}

func (k *sink) shut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed.Store(true)
	if k.sweeper != nil {
		k.sweeper.Stop()
		k.sweeper = nil
	}
	for _, m := range k.open {
		k.endLocked(m)
	}
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

// clock is monotonic time.
func (s *Sockets) clock() time.Duration {
	return time.Since(s.started) + time.Duration(s.skew.Load())
}
