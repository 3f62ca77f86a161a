package egress

import (
	"errors"
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

const (
	// A session that opens mappings faster than this in the long run scans, or is up to no good.
	createsPerSecond = 100
	// traceroute asks for a hundred at once.
	tellsPerSecond = 100
	// fewHops is what traceroute sends packets with. Every system begins with more, and has them still at the gateway.
	fewHops = 32
	// verdictAge is how long the policy's yes to one destination is good for, in a run of packets to it.
	verdictAge = time.Second
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
		if mtu := k.s.pathMTU(to); 0 < mtu && mtu < p.Len() {
			k.tellMTU(p, mtu)
		}
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
	k.tellBy(func(b []byte) ([]byte, bool) { return packet.AppendUnreachable(b, p.Dst, why, p) })
}

// tellMTU tells the session that p is too long for its way, where packets may have mtu bytes.
func (k *sink) tellMTU(p *packet.Packet, mtu int) {
	if k.tellBy(func(b []byte) ([]byte, bool) { return packet.AppendTooBig(b, p.Dst, mtu, p) }) {
		k.paths.Learn(p.Dst, mtu)
	}
}

// tellEnd tells the session that p got as far as to a router, and no further.
func (k *sink) tellEnd(p *packet.Packet, at netip.Addr) {
	k.tellBy(func(b []byte) ([]byte, bool) { return packet.AppendTimeExceeded(b, at, p) })
}

// tellBy sends what is appended, unless there have been too many. It reports whether it did.
func (k *sink) tellBy(appendError func(b []byte) ([]byte, bool)) bool {
	if k.closed.Load() || !k.tells.Allow() {
		return false
	}
	var buf [1280]byte
	b, ok := appendError(buf[:0])
	if ok {
		k.send(b)
	}
	return ok
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

// clock is monotonic time.
func (s *Sockets) clock() time.Duration {
	return time.Since(s.started) + time.Duration(s.skew.Load())
}
