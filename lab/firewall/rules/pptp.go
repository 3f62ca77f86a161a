package rules

import (
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// PPTP looks for the beginning of its control connection: length, type and cookie, as nDPI does (pptp.c). Its data is GRE:
// see IPProtocol. No measurement of a censor that does this is known.
type PPTP struct {
	Aim       // ports empty is 1723 alone
	Then Then `toml:"then"`
}

func (r *PPTP) check(place firewall.Place) error { return checkAll(&r.Aim, &r.Then, place) }

// Watch looks at what the client says first.
func (r *PPTP) Watch(f *firewall.Flow) firewall.Watcher {
	const port = 1723
	if f.Proto != firewall.TCP || len(r.Ports) == 0 && f.Server.Port() != port || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *PPTP) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 {
		return
	}
	do.Done()
	if control, err := look.PPTP(p.Payload); err == nil && p.FromClient && control == 1 {
		r.Then.do(f, do, "a start of PPTP")
	}
}
