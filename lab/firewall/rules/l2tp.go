package rules

import (
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// L2TP looks for a tunnel's beginning in UDP: a control message that asks for one, or answers (RFC 2661). Inside of IPsec,
// as nearly all L2TP is, it cannot be seen: see IPsec. Russia had trouble with L2TP from the day it blocked OpenVPN
// (net4people/bbs 274); no measurement of the parameters is known.
type L2TP struct {
	Aim       // ports empty is 1701 alone
	Then Then `toml:"then"`
}

func (r *L2TP) check(place firewall.Place) error { return checkAll(&r.Aim, &r.Then, place) }

// Watch looks at the first few packets.
func (r *L2TP) Watch(f *firewall.Flow) firewall.Watcher {
	const port = 1701
	if f.Proto != firewall.UDP || len(r.Ports) == 0 && f.Server.Port() != port || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *L2TP) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	switch control, err := look.L2TP(p.Payload); {
	case err == nil && (control == look.L2TPStart || control == look.L2TPReply):
		do.Done()
		r.Then.do(f, do, "a start of L2TP")
	case f.FromClient.Packets+f.FromServer.Packets >= maxStrange:
		do.Done()
	}
}
