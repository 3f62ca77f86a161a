package forward

import (
	"net/netip"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// sink is one session's way to the kernel.
type sink struct {
	e       *Egress
	v4, v6  netip.Addr
	send    func([]byte)
	sockets flow.PacketSink // nil where the kernel carries all
	tells   *rate.Limiter   // ICMP errors
	closed  atomic.Bool
	paths   egress.Paths
}

// tellsPerSecond bounds ICMP errors.
const tellsPerSecond = 20

func newSink(e *Egress, v4, v6 netip.Addr, send func([]byte)) *sink {
	return &sink{e: e, v4: v4, v6: v6, send: send, tells: rate.NewLimiter(tellsPerSecond, tellsPerSecond)}
}

// WritePacket implements flow.PacketSink.
func (k *sink) WritePacket(b []byte) {
	p, err := packet.Parse(b)
	if err != nil || k.closed.Load() {
		return
	}
	if k.sockets != nil && k.e.bySocket(&p) {
		k.sockets.WritePacket(b)
		return
	}
	if b[0]>>4 == 4 && b[0]&0x0f != 5 {
		return // with options it might be routed past the policy
	}
	if fe := k.e.AdmitPacket(&p); fe != nil {
		why := packet.Prohibited
		if fe.Code == flow.CodeNetUnreach {
			why = packet.NoRoute
		}
		k.tell(&p, why)
		return
	}
	if !k.e.forwards(&p) {
		k.tell(&p, packet.Prohibited)
		return
	}
	if mtu := k.paths.Fragments(&p); mtu > 0 && p.Fragments(mtu, k.e.nextID(), k.e.write) {
		return
	}
	k.e.write(b)
}

// forwards reports whether the kernel does, over the packet's IP version.
func (e *Egress) forwards(p *packet.Packet) bool {
	return !e.broken.Load() && e.works[family(p.Src)]
}

// bySocket reports whether a packet is one that sockets carry as well as, or better than, the kernel.
func (e *Egress) bySocket(p *packet.Packet) bool {
	switch p.Proto {
	case packet.ProtoUDP:
		return true
	case packet.ProtoICMP, packet.ProtoICMPv6:
		m, err := p.ICMP()
		return err == nil && m.Kind == packet.EchoRequest && (e.CanPing() || !e.forwards(p))
	}
	return false
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

// Close ends the session's: nothing of it stays.
func (k *sink) Close() error {
	if k.closed.Swap(true) {
		return nil
	}
	k.e.drop(k)
	if k.sockets != nil {
		return k.sockets.Close()
	}
	return nil
}
