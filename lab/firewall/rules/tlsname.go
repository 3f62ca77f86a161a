package rules

import (
	"errors"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// TLSName looks for names in the SNI of TLS, at every port.
//
// China: resets by three injectors, 3-tuple blocked for 180 s; TCP is reassembled, records were not until 2024 and may be
// since (Wu et al., IEEE S&P 2025). Henan, 2023 on: one packet, no state, only TCP headers without options, to the client
// alone, none later (the same). Russia, in path, connections from inside alone, residual by 4-tuple: class I, the server's
// packets become RST+ACK, 75 s; class II, all is dropped after 5 to 8 more packets, 420 s; class IV, all is dropped, the
// hello too, 40 s (Xue et al., IMC 2022); the server's certificate is read too (bol-van/zapret, readme). Iran: one RST+ACK
// (Tai et al., USENIX Security 2025); 2020, a drop for 180 s by 4-tuple that retransmissions prolong (Bock et al., 2021);
// MCI in June 2025, the hello passes and the server's answer does not (net4people/bbs 489).
type TLSName struct {
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	To     Nets  `toml:"to"`
	Ports  []int `toml:"ports"` // empty is every port
	// Records reassembles TLS records.
	Records bool `toml:"records"`
	// Stateless looks at each packet by itself, whatever came before it.
	Stateless bool `toml:"stateless"`
	// Certificate looks for names in the server's certificate too, where TLS is old enough to show it.
	Certificate bool `toml:"certificate"`
	// NoOptions looks only at packets whose TCP header has no options.
	NoOptions bool `toml:"no-options"`
	// Outbound looks only at connections from inside, Opened only at those whose SYN was seen.
	Outbound bool    `toml:"outbound"`
	Opened   bool    `toml:"opened"`
	Chance   float64 `toml:"chance"`
	Then     Then    `toml:"then"`
}

func (r *TLSName) check(place firewall.Place) error {
	if len(r.Names) == 0 {
		return wrong("names", "is missing: it says which names are looked for")
	}
	if r.Stateless && r.Certificate {
		return wrong("certificate", "is never whole in one packet: it needs stateless = false")
	}
	return errors.Join(chance("chance", r.Chance), r.Then.check(place))
}

// Watch looks at what the ends say first.
func (r *TLSName) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || r.Outbound && !r.Stateless && !f.FromInside || r.Opened && !f.Opened ||
		!r.To.Covers(f.Server.Addr()) || !portIn(r.Ports, f.Server.Port()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	if r.Stateless {
		return firewall.WatchFunc(r.alone)
	}
	return firewall.WatchFunc(r.packet)
}

func (r *TLSName) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	text := do.Text()
	if len(text) == 0 || r.NoOptions && len(p.Options) > 0 || !p.FromClient && !r.Certificate {
		return
	}
	var names []string
	if p.FromClient {
		hello, err := look.ClientHello(text, r.Records)
		if err != nil {
			if !errors.Is(err, look.ErrMore) {
				do.Done()
			}
			return
		}
		names = []string{look.ServerName(hello)}
	} else {
		var err error
		if names, err = look.CertificateNames(text); errors.Is(err, look.ErrMore) {
			return
		}
	}
	if r.find(f, do, names) || !p.FromClient || !r.Certificate {
		do.Done()
	}
}

// alone looks at a packet as if it were the first.
func (r *TLSName) alone(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 || r.NoOptions && len(p.Options) > 0 || r.Outbound && !p.Outbound {
		return
	}
	if hello, err := look.ClientHello(p.Payload, r.Records); err == nil {
		r.find(f, do, []string{look.ServerName(hello)})
	}
}

func (r *TLSName) find(f *firewall.Flow, do *firewall.Action, names []string) bool {
	for _, name := range names {
		if pattern := r.Names.Match(name); pattern != "" && r.Except.Match(name) == "" {
			r.Then.do(f, do, "name matches %s", pattern)
			return true
		}
	}
	return false
}
