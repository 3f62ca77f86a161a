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
// alone, none later (the same). Russia: classes I, II and IV with residual blocks of 75, 420 and 40 s by 4-tuple (Xue et
// al., IMC 2022). Iran: one reset, in path (Tai et al., USENIX Security 2025).
type TLSName struct {
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	To     Nets  `toml:"to"`
	Ports  []int `toml:"ports"` // empty is every port
	// Records reassembles TLS records.
	Records bool `toml:"records"`
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
	return errors.Join(chance("chance", r.Chance), r.Then.check(place))
}

// Watch looks at what the client says first.
func (r *TLSName) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || r.Outbound && !f.FromInside || r.Opened && !f.Opened || !r.To.Covers(f.Server.Addr()) ||
		!portIn(r.Ports, f.Server.Port()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *TLSName) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.FromClient || r.NoOptions && len(p.Options) > 0 {
		return
	}
	text := do.Text()
	if len(text) == 0 {
		return
	}
	hello, err := look.ClientHello(text, r.Records)
	if err != nil {
		if !errors.Is(err, look.ErrMore) {
			do.Done()
		}
		return
	}
	do.Done()
	name := look.ServerName(hello)
	if pattern := r.Names.Match(name); pattern != "" && r.Except.Match(name) == "" {
		r.Then.do(f, do, "SNI matches %s", pattern)
	}
}

func portIn(ports []int, port uint16) bool {
	for _, p := range ports {
		if p == int(port) {
			return true
		}
	}
	return len(ports) == 0
}
