package rules

import (
	"errors"
	"slices"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// QUICName looks for names in the SNI of QUIC, whose first packet anyone can decrypt.
//
// China, 2024-04 on: version 1; the first datagram of a flow of 60 s; only if the client's port is above the server's; the
// hello whole in one CRYPTO frame of one datagram; connections from inside alone since 2025-03. Client to server is dropped
// by 3-tuple for 180 s, from 60/80/110/190 ms to 7.5 s later (the least is ours), so that a first exchange mostly completes.
// The chance falls with the network's load: Beijing, by hours, from 0.718 at night to 0.049 in the afternoon; Guangzhou and
// Shanghai 0.14 and 0.13 on average (Zohaib et al., USENIX Security 2025, and their data).
// Russia, 2023-07 on: version 1; by 4-tuple for 420 s, which later packets prolong; most ports (Heitmann et al., FOCI 2026).
type QUICName struct {
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	To     Nets  `toml:"to"`
	Ports  []int `toml:"ports"` // empty is every port
	// ExceptPorts are let be.
	ExceptPorts []int `toml:"except-ports"`
	// Versions of QUIC that are read; empty is 1 alone. Version 2 is 1798521807.
	Versions []uint32 `toml:"versions"`
	// PortAbove looks only at clients whose port is above the server's.
	PortAbove bool `toml:"port-above"`
	// Reassemble puts the hello together from CRYPTO frames of the first datagrams.
	Reassemble bool    `toml:"reassemble"`
	Outbound   bool    `toml:"outbound"` // only connections from inside
	Chance     float64 `toml:"chance"`
	Then       Then    `toml:"then"`
}

// noResets refuses what is for TCP alone.
func noResets(t *Then) error {
	switch {
	case len(t.Reset) > 0:
		return wrong("then.reset", "QUIC knows no resets: drop or block")
	case t.Rewrite:
		return wrong("then.rewrite", "only TCP has packets to rewrite to: drop or block")
	}
	return nil
}

func (r *QUICName) check(place firewall.Place) error {
	if len(r.Names) == 0 {
		return wrong("names", "is missing: it says which names are looked for")
	}
	for _, v := range r.Versions {
		if v != look.QUICv1 && v != look.QUICv2 {
			return wrong("versions", "%d cannot be read: there are %d and %d", v, look.QUICv1, uint32(look.QUICv2))
		}
	}
	return errors.Join(chance("chance", r.Chance), ports("ports", r.Ports), ports("except-ports", r.ExceptPorts), noResets(&r.Then), r.Then.check(place))
}

// Watch looks at the first datagrams.
func (r *QUICName) Watch(f *firewall.Flow) firewall.Watcher {
	port := f.Server.Port()
	if f.Proto != firewall.UDP || r.Outbound && !f.FromInside || r.PortAbove && f.Client.Port() <= port ||
		!r.To.Covers(f.Server.Addr()) || !portIn(r.Ports, port) || slices.Contains(r.ExceptPorts, int(port)) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	return &quicWatcher{versions: r.Versions, reassemble: r.Reassemble, find: r.find}
}

func (r *QUICName) find(f *firewall.Flow, do *firewall.Action, hello *clienthello.Hello) {
	name := look.ServerName(hello)
	if pattern := r.Names.Match(name); pattern != "" && r.Except.Match(name) == "" {
		r.Then.do(f, do, "name matches %s", pattern)
	}
}

// quicWatcher finds the ClientHello in a flow's first datagrams. Without reassembly it is in the first, as one CRYPTO frame
// with nothing but PADDING behind it, or it is not seen.
type quicWatcher struct {
	versions   []uint32 // empty is 1 alone
	reassemble bool
	find       func(f *firewall.Flow, do *firewall.Action, hello *clienthello.Hello)

	pieces []look.Piece
}

// maxHelloDatagrams is how many datagrams a hello is put together from: those of today's browsers take two.
const maxHelloDatagrams = 4

// Packet looks at a datagram.
func (w *quicWatcher) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.FromClient {
		return
	}
	initial, err := look.QUICInitial(p.Payload)
	if err != nil || !w.reads(initial.Version) {
		// In the middle of a hello, something else is passed over; at its beginning it is no QUIC.
		if len(w.pieces) == 0 || f.FromClient.Packets >= maxHelloDatagrams {
			do.Done()
		}
		return
	}
	if !w.reassemble {
		do.Done()
		if len(initial.Crypto) != 1 || initial.Crypto[0].Offset != 0 || initial.Frames[0] != crypto ||
			len(initial.Frames) > 1 && !slices.Equal(initial.Frames[1:], []byte{0}) {
			return
		}
	}
	w.pieces = append(w.pieces, initial.Crypto...) // decrypted: nobody else's memory
	hello, err := look.CryptoHello(look.Join(w.pieces))
	if !errors.Is(err, look.ErrMore) || f.FromClient.Packets >= maxHelloDatagrams {
		do.Done()
	}
	if err == nil {
		w.find(f, do, hello)
	}
}

// crypto is the type of a CRYPTO frame.
const crypto = 6

func (w *quicWatcher) reads(version uint32) bool {
	if len(w.versions) == 0 {
		return version == look.QUICv1
	}
	return slices.Contains(w.versions, version)
}
