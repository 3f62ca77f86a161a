package rules

import (
	"errors"
	"net/netip"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// AllowAddresses is a shutdown: nothing passes but what is spoken to a few addresses outside. Routes stay announced, so
// nobody is told: no ICMP.
//
// Russia, mobile networks, 2025-09 on: at the second hop everything is dropped whose destination is not allowed, then the
// SNI is looked at; 63,126 of 46 million Russian addresses answered, 0.14 % (a teardown on dev.to); an early form let SYNs
// through and ate the ClientHello, with DNS to the carrier and to one public resolver alive (net4people/bbs 516); by 2026
// both address and SNI have to be allowed. Iran, 2025-06 and 2026-01: 0.017 % of addresses still get out, a lower bound
// (net4people/bbs 630). The packets that IPv6 needs on a cable to find neighbours are spared.
type AllowAddresses struct {
	Nets  Nets  `toml:"nets"`  // may be spoken to; empty is none
	Names Names `toml:"names"` // if set, a ClientHello to one of them must have one of these names; empty is any name
	// OnlyTLS drops what is no ClientHello of TLS or QUIC, to the allowed too.
	OnlyTLS bool `toml:"only-tls"`
	// Resolvers may be asked over UDP, port 53, and not otherwise, unless they are in Nets too.
	Resolvers Nets `toml:"resolvers"`
	// PassEmpty lets TCP packets without a payload through: connections open, and what is said first vanishes.
	PassEmpty bool `toml:"pass-empty"`
	// ICMP lets it through from and to the allowed.
	ICMP bool `toml:"icmp"`
}

func (r *AllowAddresses) check(place firewall.Place) error {
	if place != firewall.InPath {
		return wrong("nets", "a box that sees a copy cannot keep anything from passing")
	}
	return nil
}

// Watch decides by address.
func (r *AllowAddresses) Watch(f *firewall.Flow) firewall.Watcher {
	out := outside(f)
	switch {
	case local(out):
		return nil
	case f.Proto == firewall.UDP && f.Server.Port() == 53 && f.FromInside && r.Resolvers.Has(out):
		return nil
	case !r.Nets.Has(out), (f.Proto == firewall.ICMP || f.Proto == firewall.ICMPv6) && !r.ICMP:
		return &refusal{rule: r, why: "the address is not allowed"}
	case (f.Proto == firewall.TCP || f.Proto == firewall.UDP) && (len(r.Names) > 0 || r.OnlyTLS):
		return &nameLook{rule: r}
	}
	return nil
}

// outside is the end of a flow that is abroad.
func outside(f *firewall.Flow) netip.Addr {
	if f.FromInside {
		return f.Server.Addr()
	}
	return f.Client.Addr()
}

// local says whether an address means something on one cable only.
func local(a netip.Addr) bool { return a.IsLinkLocalUnicast() || a.IsMulticast() }

// refusal drops a flow.
type refusal struct {
	rule *AllowAddresses
	why  string
	told bool
}

// Packet implements firewall.Watcher.
func (w *refusal) Packet(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if p.Proto == firewall.ICMPv6 && len(p.Payload) > 0 && p.Payload[0] >= 133 && p.Payload[0] <= 137 {
		return // neighbour discovery (RFC 4861)
	}
	if w.rule.PassEmpty && p.Proto == firewall.TCP && len(p.Payload) == 0 {
		return
	}
	if !w.told {
		w.told = true
		do.Fired("%s", w.why)
	}
	do.Drop()
}

// nameLook waits for the ClientHello to an address that is allowed.
type nameLook struct {
	rule    *AllowAddresses
	said    spoken
	refused *refusal
}

// Packet implements firewall.Watcher.
func (w *nameLook) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if w.refused == nil {
		if !p.FromClient || len(p.Payload) == 0 {
			return
		}
		hello, err := w.said.read(p, do)
		switch {
		case errors.Is(err, look.ErrMore):
			return
		case err != nil && !w.rule.OnlyTLS, err == nil && (len(w.rule.Names) == 0 || w.rule.Names.Match(look.ServerName(hello)) != ""):
			do.Done()
			return
		case err != nil:
			w.refused = &refusal{rule: w.rule, why: "it is no TLS"}
		default:
			w.refused = &refusal{rule: w.rule, why: "the SNI is not allowed"}
		}
	}
	w.refused.Packet(f, p, do)
}
