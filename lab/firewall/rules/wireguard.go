package rules

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// WireGuard looks for its handshake: a first message of 148 bytes and an answer of 92 that names the first one's sender, at
// any port.
//
//	type 1 | zero 3 | sender 4 | … | MAC2 16                1: initiation, 148 bytes
//	type 2 | zero 3 | sender 4 | receiver 4 | …              2: response, 92 bytes
//	type 4 | zero 3 | receiver 4 | counter 8 | …              4: data, 32 bytes or 16 more
//
// The messages are WireGuard's own (Donenfeld, NDSS 2017, section 5.4); that the indices match is OpenGFW's condition
// (wireguard.go) with the fewest false positives. Russia, 2023-08 on: dropped after the handshake and more than 2 data
// packets, to foreign servers (net4people/bbs 274); two to four junk datagrams before the handshake got by in 2025-05.
// Egypt: the handshake is dropped. China, 2022: the server's port for days after about a week of use, IPv4 alone
// (net4people/bbs 117). All but the format is users' reports.
type WireGuard struct {
	Aim
	// At is when it acts: at the "initiation", at the "response", or with the "data", after more than Data packets of it.
	At   string `toml:"at"`
	Data int    `toml:"data"`
	// First wants the initiation to be the flow's first packet.
	First bool `toml:"first"`
	// MAC2 wants an initiation without a cookie: all are, but under load.
	MAC2 bool `toml:"mac2-zero"`
	// Lengths of initiation and response, for variants; zero is 148 and 92.
	Lengths [2]int `toml:"lengths"`
	// Used acts only once a server was used for so long.
	Used Dur  `toml:"used"`
	Then Then `toml:"then"`

	servers tally[netip.AddrPort]
}

func (r *WireGuard) check(place firewall.Place) error {
	if r.Data != 0 && r.At != "data" {
		return wrong("data", `counts nothing unless at is "data"`)
	}
	return checkAll(&r.Aim, &r.Then, place, oneOf("at", r.At, "response", "initiation", "data"), positive("data", r.Data),
		positive("lengths", min(r.Lengths[0], r.Lengths[1])))
}

// Watch follows the handshake.
func (r *WireGuard) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.UDP || !r.at(f) {
		return nil
	}
	return &wireGuard{rule: r}
}

// wireGuard's states:
//
//	(nothing) ─initiation─► asked ─response to it─► met ─data─► …
type wireGuard struct {
	rule       *WireGuard
	asked, met bool
	asker      bool // the client asked
	sender     uint32
	data       int
}

// maxBefore is how many packets may come before a handshake.
const maxBefore = 50

func (w *wireGuard) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r, b := w.rule, p.Payload
	lengths := or(r.Lengths, [2]int{148, 92})
	before := f.FromClient.Packets + f.FromServer.Packets
	if !w.asked && (before > maxBefore || r.First && before > 1) {
		do.Done()
		return
	}
	if len(b) < 12 || b[1]|b[2]|b[3] != 0 {
		return
	}
	switch {
	case b[0] == 1 && len(b) == lengths[0] && (!r.MAC2 || allZero(b[len(b)-16:])):
		w.asked, w.met, w.asker, w.sender = true, false, p.FromClient, binary.LittleEndian.Uint32(b[4:])
		w.act(f, p, do, "initiation")
	case b[0] == 2 && len(b) == lengths[1] && w.asked && p.FromClient != w.asker && binary.LittleEndian.Uint32(b[8:]) == w.sender:
		w.met = true
		w.act(f, p, do, "response")
	case b[0] == 4 && len(b) >= 32 && len(b)%16 == 0 && w.met:
		w.data++
		if w.data > r.Data {
			w.act(f, p, do, "data")
		}
	}
}

func (w *wireGuard) act(f *firewall.Flow, p *firewall.Packet, do *firewall.Action, at string) {
	r := w.rule
	if or(r.At, "response") != at {
		return
	}
	if r.Used != 0 {
		const forget = 30 * 24 * time.Hour
		if seen := r.servers.add(p.At, forget, f.Server); p.At-seen.first < time.Duration(r.Used) {
			return // it will be seen again
		}
	}
	do.Done()
	r.Then.do(f, do, "WireGuard's %s", at)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
