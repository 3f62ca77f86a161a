package rules

import (
	"fmt"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// AddressBlock is a black hole: packets to and from some addresses outside vanish. It is for boxes in the path, as routers
// are.
//
// China: static blocks of Shadowsocks and Tor servers drop what they send (Alice et al., IMC 2020), others what is sent to
// them; whole addresses, ports, or UDP alone (net4people/bbs 129). Russia: both ways, ICMP included (Xue et al., IMC 2022).
// Iran, June 2025: UDP, and IPv6, altogether. 84.5 % of the sites that China blocks, it blocks like this (Chai et al., 2019).
type AddressBlock struct {
	To     Nets `toml:"to"`     // where they are; empty is everywhere outside
	Except Nets `toml:"except"` // but not there
	// Ports of theirs; empty is every port, and what has none.
	Ports []int `toml:"ports"`
	// Protocol is "tcp", "udp", "icmp", "esp", "gre", "ah" or a number; empty is any.
	Protocol Protocol `toml:"protocol"`
	// Way: "to-client" drops what they send, "to-server" what is sent to them, whoever began.
	Way firewall.Way `toml:"way"`
	// After is when it begins, since the box began; For how long it lasts then, zero for ever.
	After Dur `toml:"after"`
	For   Dur `toml:"for"`
}

// Protocol is one of IP's, by its name or number.
type Protocol uint8

// protocols are the names; "icmp" is IPv6's too.
var protocols = map[string]Protocol{"tcp": firewall.TCP, "udp": firewall.UDP, "icmp": firewall.ICMP, "gre": firewall.GRE,
	"esp": firewall.ESP, "ah": firewall.AH}

// UnmarshalText reads one.
func (p *Protocol) UnmarshalText(b []byte) error {
	if known, ok := protocols[string(b)]; ok {
		*p = known
		return nil
	}
	var n uint8
	if _, err := fmt.Sscanf(string(b), "%d", &n); err != nil || fmt.Sprint(n) != string(b) || n == 0 {
		return fmt.Errorf("%q is neither tcp, udp, icmp, gre, esp or ah nor a number of IP's", b)
	}
	*p = Protocol(n)
	return nil
}

func (p Protocol) is(proto uint8) bool {
	return p == 0 || uint8(p) == proto || p == firewall.ICMP && proto == firewall.ICMPv6
}

func (r *AddressBlock) check(place firewall.Place) error {
	if place == firewall.OnPath {
		return wrong("to", "a box that sees a copy cannot drop: this rule is for a box in the path")
	}
	if len(r.To) == 0 && len(r.Except) == 0 && len(r.Ports) == 0 && r.Protocol == 0 && r.After == 0 {
		return wrong("to", `is missing: everything would be blocked; if that is meant, say "0.0.0.0/0" and "::/0"`)
	}
	return ports("ports", r.Ports)
}

// Watch drops what is for the addresses.
func (r *AddressBlock) Watch(f *firewall.Flow) firewall.Watcher {
	outside := f.Server
	if !f.FromInside {
		outside = f.Client
	}
	if !r.To.Covers(outside.Addr()) || r.Except.Has(outside.Addr()) || !portIn(r.Ports, outside.Port()) || !r.Protocol.is(f.Proto) {
		return nil
	}
	fired := false
	return firewall.WatchFunc(func(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		since := p.At - time.Duration(r.After)
		if r.For != 0 && since >= time.Duration(r.For) {
			do.Done()
			return
		}
		if since < 0 || r.Way == firewall.ToServer && !p.Outbound || r.Way == firewall.ToClient && p.Outbound {
			return
		}
		if !fired {
			fired = true
			do.Fired("%s", r.why())
		}
		do.Drop()
	})
}

func (r *AddressBlock) why() string {
	switch {
	case len(r.To) > 0 && len(r.Ports) > 0:
		return "address and port are blocked"
	case len(r.To) > 0:
		return "address is blocked"
	case len(r.Ports) > 0:
		return "port is blocked"
	}
	return "protocol is blocked"
}
