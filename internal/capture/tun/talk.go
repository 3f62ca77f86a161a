package tun

import (
	"container/list"
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// A talk is what one port of an application's says to one address that stands for a name, and hears from there:
//
//	its first datagram ──> the name is looked up, and datagrams wait
//	                         ├─ an address ──> they go there, and what comes from there seems to come from the synthetic one
//	                         └─ none ──> host unreachable; forgotten
//	the address stands for another name, or nothing is sent for talkTime ──> forgotten
//
// An echo's identifier is taken for its port.
type talk struct {
	name  string
	near  talkKey // as the application has it
	far   talkKey // as the world has it; its address is not valid while it is looked up
	held  [][]byte
	used  time.Time
	place *list.Element
}

// talkKey is a conversation as one side has it.
type talkKey struct {
	proto uint8
	port  uint16         // the application's; 0 where the protocol has none that is known here
	to    netip.AddrPort // without a port for all but datagrams
}

const (
	// mostTalks bounds them; the one that was quiet for longest goes first.
	mostTalks = 8192
	// talkTime is how long one lasts that nobody uses: longer than gateways keep theirs.
	talkTime = 5 * time.Minute
	// mostHeld is how many datagrams wait: a QUIC client's first flight, and again.
	mostHeld = 8
)

// talks are all talks there are.
type talks struct {
	mu    sync.Mutex
	near  map[talkKey]*talk
	far   map[talkKey]*talk // who was the last to send there
	order list.List         // of *talk, the latest used first
}

func (t *talks) init() { t.near, t.far = make(map[talkKey]*talk), make(map[talkKey]*talk) }

func (t *talks) removeLocked(n *talk) {
	delete(t.near, n.near)
	if t.far[n.far] == n {
		delete(t.far, n.far)
	}
	t.order.Remove(n.place)
}

// sweep forgets the quiet ones.
func (t *talks) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for el := t.order.Back(); el != nil && now.Sub(el.Value.(*talk).used) > talkTime; el = t.order.Back() {
		t.removeLocked(el.Value.(*talk))
	}
}

// keyOf is the talk of an application's packet.
func keyOf(p *packet.Packet) talkKey {
	k := talkKey{proto: p.Proto, to: netip.AddrPortFrom(p.Dst, 0)}
	switch p.Proto {
	case packet.ProtoUDP:
		k.port = binary.BigEndian.Uint16(p.Payload)
		k.to = netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(p.Payload[2:]))
	case packet.ProtoICMP, packet.ProtoICMPv6:
		if m, err := p.ICMP(); err == nil {
			k.port = m.ID
		}
	}
	return k
}

// toName sends a packet, which is to an address that stands for a name, to one that the name has.
func (c *Capture) toName(ctx context.Context, p *packet.Packet, b []byte, name string, direct bool) {
	t, key := &c.talks, keyOf(p)
	t.mu.Lock()
	n := t.near[key]
	if n != nil && n.name != name {
		t.removeLocked(n)
		n = nil
	}
	switch {
	case n == nil:
		select {
		case c.asking <- struct{}{}:
		default:
			t.mu.Unlock()
			c.stats.dropped.Add(1)
			return
		}
		if t.order.Len() >= mostTalks {
			t.removeLocked(t.order.Back().Value.(*talk))
		}
		n = &talk{name: name, near: key, held: [][]byte{append([]byte(nil), b...)}, used: time.Now()}
		n.place = t.order.PushFront(n)
		t.near[key] = n
		t.mu.Unlock()
		c.wg.Go(func() {
			defer func() { <-c.asking }()
			c.beginTalk(ctx, n, direct)
		})
		return
	case !n.far.to.IsValid():
		if len(n.held) < mostHeld {
			n.held = append(n.held, append([]byte(nil), b...))
		} else {
			c.stats.dropped.Add(1)
		}
		t.mu.Unlock()
		return
	}
	n.used = time.Now()
	t.order.MoveToFront(n.place)
	t.far[n.far] = n
	to := n.far.to.Addr()
	t.mu.Unlock()
	c.cross(p, b, to, direct)
}

// beginTalk looks a talk's name up, and sends what has waited for it.
func (c *Capture) beginTalk(ctx context.Context, n *talk, direct bool) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	addrs, err := c.cfg.Resolve(ctx, n.name, n.near.to.Addr().Is6())
	t := &c.talks
	t.mu.Lock()
	if t.near[n.near] != n { // forgotten meanwhile
		t.mu.Unlock()
		return
	}
	held := n.held
	n.held = nil
	var to netip.Addr
	if err == nil {
		for _, a := range addrs {
			k := n.near
			k.to = netip.AddrPortFrom(a, k.to.Port())
			// Two names may share an address: one port that speaks to both is told apart by another, where there is one.
			if !oneHost(a) || a.Is6() != n.near.to.Addr().Is6() || c.synthetic(a) || to.IsValid() && t.far[k] != nil {
				continue
			}
			to, n.far = a, k
			if t.far[k] == nil {
				break
			}
		}
	}
	if to.IsValid() {
		t.far[n.far] = n
	} else {
		t.removeLocked(n)
	}
	t.mu.Unlock()
	for _, b := range held {
		p, err := packet.Parse(b)
		switch {
		case err != nil: // it was parsed before
		case to.IsValid():
			c.cross(&p, b, to, direct)
		default:
			c.unreachable(&p, packet.NoHost)
		}
	}
}

// seems is whom a packet from the world is to seem to come from, and, for an error, whom the packet seems to have been to that it
// is about; not valid where that is as it is.
func (t *talks) seems(p *packet.Packet) (from, about netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.far) == 0 {
		return from, about
	}
	near := func(k talkKey) netip.Addr {
		n := t.far[k]
		if n == nil {
			return netip.Addr{}
		}
		return n.near.to.Addr()
	}
	if p.Proto == packet.ProtoUDP {
		u, err := p.UDP()
		if err != nil {
			return from, about
		}
		return near(talkKey{p.Proto, u.Dst.Port(), u.Src}), about
	}
	if p.Proto != packet.ProtoICMP && p.Proto != packet.ProtoICMPv6 {
		return near(talkKey{p.Proto, 0, netip.AddrPortFrom(p.Src, 0)}), about
	}
	m, err := p.ICMP()
	if err != nil {
		return from, about
	}
	if m.Kind == packet.EchoReply {
		return near(talkKey{p.Proto, m.ID, netip.AddrPortFrom(p.Src, 0)}), about
	}
	q, err := m.Quoted()
	if err != nil {
		return from, about
	}
	about = near(talkKey{q.Proto, q.Src.Port(), q.Dst})
	if about.IsValid() && p.Src == q.Dst.Addr() {
		from = about
	}
	return from, about
}
