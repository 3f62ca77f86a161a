package egress

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// Protocols whose headers begin with ports, as UDP's and TCP's do.
const (
	protoDCCP    = 33
	protoSCTP    = 132
	protoUDPLite = 136
)

var errNoPorts = flow.Errorf(flow.CodeBadTarget, "a packet without the ports of its protocol")

// AdmitPacket says whether a packet may go where it is to, by the policy that everything else goes by, for whoever sends it
// by another way than these sockets. Ports are looked at in every protocol that has them.
func (s *Sockets) AdmitPacket(p *packet.Packet) *flow.Error {
	var fe *flow.Error
	switch p.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if len(p.Payload) < 4 {
			return errNoPorts
		}
		fe = s.admit(netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(p.Payload[2:])))
	default:
		fe = s.admitAddr(p.Dst)
	}
	if fe == nil && s.upstream != nil {
		return errNoUDP
	}
	return fe
}

// CanPing reports whether these sockets can send echo requests: systems may keep them from a gateway's group.
func (s *Sockets) CanPing() bool { return s.pings() }

func tryPing(source netip.Addr) func() bool {
	return sync.OnceValue(func() bool {
		if !canPing {
			return false
		}
		c, err := openPing(false, source, nil)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}
