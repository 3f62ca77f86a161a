package client

import (
	"net/netip"
	"sync"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/rules"
)

// past is the way past the tunnel for packets that rules send directly: each of an application's ports has a socket of its own,
// which Config.Protect has seen. The sockets are bound to no address, so that they leave by whatever network there is.
type past struct {
	mu      sync.Mutex
	sockets *egress.Sockets // nil until there is a packet
	sink    flow.PacketSink
	closed  bool
}

// everywhere is what a machine may reach of its own: what a gateway refuses its sessions is no concern here.
var everywhere = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// sendPast sends a packet past the tunnel. Answers come only from whom it has sent to, so that nobody outside can seem to be
// somebody behind the tunnel.
func (c *Client) sendPast(b []byte) {
	p := &c.past
	p.mu.Lock()
	if p.sink == nil && !p.closed {
		s, err := egress.New(egress.Config{Allow: everywhere, ClosedPorts: []uint16{}, FilterByAddress: true, Control: c.cfg.Protect})
		if err != nil {
			p.mu.Unlock()
			c.log.Error("no packet goes past the tunnel", "err", err)
			return
		}
		p.sockets, p.sink = s, s.Packets(c.deliver)
	}
	sink := p.sink
	p.mu.Unlock()
	if sink != nil {
		sink.WritePacket(b)
	}
}

func (p *past) close() {
	p.mu.Lock()
	s := p.sockets
	p.closed, p.sink, p.sockets = true, nil, nil
	p.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

// sendPacket sends what comes from one of the proxy's ports, to a real address: whose it is, is not known.
func (c *Client) sendPacket(b []byte) error {
	if c.rules.Load() == nil && c.resolver.Load() == nil {
		return c.sendInside(b)
	}
	p, err := packet.Parse(b)
	if err != nil {
		return err
	}
	if r := c.resolver.Load(); r != nil && r.Synthetic(p.Dst) {
		return &flow.Error{Code: flow.CodeHostUnreach}
	}
	u, err := p.UDP()
	if err != nil {
		return err
	}
	switch c.decidePacket(u.Dst, "", owner.Socket{}) {
	case rules.Block:
		return errBlocked
	case rules.Direct:
		c.sendPast(b)
		return nil
	}
	return c.sendInside(b)
}

// sendInside sends a packet through the session.
func (c *Client) sendInside(b []byte) error {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil {
		return &flow.Error{Code: flow.CodeNetUnreach}
	}
	return s.SendPacket(b)
}
