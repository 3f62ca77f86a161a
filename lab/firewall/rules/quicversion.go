package rules

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// QUICVersion looks for QUIC by its version alone: the second to the fifth byte of a long datagram of a client.
//
// Russia, 2022-03 on: port 443, version 1, 1001 bytes or more; the flow is dropped, but not to VK's addresses (Xue et al.,
// IMC 2022; net4people/bbs 108; bol-van/zapret 115).
type QUICVersion struct {
	To       Nets     `toml:"to"`
	Except   Nets     `toml:"except"`   // let be
	Ports    []int    `toml:"ports"`    // empty is every port
	Versions []uint32 `toml:"versions"` // empty is 1 alone
	Least    int      `toml:"least"`    // bytes of payload
	Outbound bool     `toml:"outbound"` // only connections from inside
	Chance   float64  `toml:"chance"`
	Then     Then     `toml:"then"`
}

func (r *QUICVersion) check(place firewall.Place) error {
	if r.Least < 0 {
		return wrong("least", "cannot be negative")
	}
	return errors.Join(chance("chance", r.Chance), ports("ports", r.Ports), noResets(&r.Then), r.Then.check(place))
}

// Watch looks at what the client sends.
func (r *QUICVersion) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.UDP || r.Outbound && !f.FromInside || !r.To.Covers(f.Server.Addr()) || r.Except.Has(f.Server.Addr()) ||
		!portIn(r.Ports, f.Server.Port()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *QUICVersion) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.FromClient || len(p.Payload) < max(r.Least, 5) {
		return
	}
	version := binary.BigEndian.Uint32(p.Payload[1:])
	if version == look.QUICv1 && len(r.Versions) == 0 || slices.Contains(r.Versions, version) {
		do.Done()
		r.Then.do(f, do, "QUIC version %#x, %d bytes", version, len(p.Payload))
	}
}
