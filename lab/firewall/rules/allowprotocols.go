package rules

import (
	"slices"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// AllowProtocols lets connections live that begin as one of a few protocols does, and acts on all others.
//
// Iran, 2020-02 on (Bock et al., FOCI 2020): TCP ports 53, 80 and 443, connections from inside; the client's first two
// packets with a payload together, unreassembled and without regard to checksums, have to begin as TLS, HTTP or DNS does,
// any of them at any port; otherwise its packets from the second on are dropped for 60 s, begun anew by what it sends again,
// and to some prefixes only (of 20,000 sites 18 %); after 9 packets a connection is not looked at any more:
// ports = [53, 80, 443], allow = ["tls", "http", "dns"], most = 9, then = { drop = true, block = "connection",
// way = "to-server", for = "60s", extend = true }.
//
// Iran, 2023 to 2025, two carriers (Alaraj et al., 2025): whatever is not recognised, at any port, is dropped after about 6
// packets: after = 6. That paper's prefixes of HTTP, TLS and SSH lived for weeks and days: allow says which do.
type AllowProtocols struct {
	To    Nets  `toml:"to"`
	Ports []int `toml:"ports"` // empty is every port
	// UDP looks at UDP too, which else passes.
	UDP bool `toml:"udp"`
	// Allow names what may pass: tls, http, dns, ssh, quic.
	Allow []string `toml:"allow"`
	// Packets is how many of the client's with a payload are looked at together; zero is 2.
	Packets int `toml:"packets"`
	// After is how many packets, both directions together, pass in any case.
	After int `toml:"after"`
	// Most ends the interest in a connection that had so many packets from its client and is not decided; zero is never.
	Most int  `toml:"most"`
	Then Then `toml:"then"`
}

func (r *AllowProtocols) check(place firewall.Place) error {
	if len(r.Allow) == 0 {
		return wrong("allow", "is missing: it says which protocols pass")
	}
	for field, n := range map[string]int{"packets": r.Packets, "after": r.After, "most": r.Most} {
		if n < 0 {
			return wrong(field, "%d is no number of packets", n)
		}
	}
	if err := checkShapes("allow", r.Allow); err != nil {
		return err
	}
	return r.Then.check(place)
}

// Watch looks at what the client says first.
func (r *AllowProtocols) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP && !(r.UDP && f.Proto == firewall.UDP) || !f.FromInside || !r.To.Covers(f.Server.Addr()) ||
		!portIn(r.Ports, f.Server.Port()) {
		return nil
	}
	return &allowLook{rule: r}
}

type allowLook struct {
	rule   *AllowProtocols
	said   []byte
	denied bool
}

// maxSaid bounds what is kept: the shapes are all in the first bytes.
const maxSaid = 1500

// Packet implements firewall.Watcher.
func (w *allowLook) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if !w.denied && p.FromClient && len(p.Payload) > 0 {
		first := p.Payload[:min(len(p.Payload), maxSaid-len(w.said))]
		if len(w.said) > 0 {
			w.said = append(w.said, first...)
			first = w.said
		}
		if slices.Contains(r.Allow, shape(f.Proto, first)) {
			do.Done()
			return
		}
		if len(w.said) == 0 {
			w.said = append(w.said, first...)
		}
		w.denied = f.FromClient.Data >= or(r.Packets, 2)
	}
	switch n := f.FromClient.Packets + f.FromServer.Packets; {
	case w.denied && n > r.After:
		do.Done()
		r.Then.do(f, do, "none of %v after %d packets", r.Allow, n)
	case !w.denied && r.Most > 0 && f.FromClient.Packets > r.Most:
		do.Done()
	}
}
