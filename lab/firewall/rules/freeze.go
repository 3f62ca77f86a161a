package rules

import (
	"bytes"
	"errors"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// Freeze counts the packets of a connection and acts when there were too many, whatever is in them, unless somebody on a
// list is spoken to.
//
// Russia, 2025-06 on, towards foreign hosters and CDNs ("16-20 KB", "l4-25"): after about 25 packets, both directions
// together, TCP and UDP alike, nothing is delivered any more and nobody is told: then = { block = "connection" }. What it is
// counts packets: 64 bytes sent two at a time are enough, and uploads are frozen as downloads are (hyperion-cs/dpi-checkers,
// its documentation and l4-25_prober.py; 12 to 34 KB seen). Spared are names on a list, addresses on a list and SSH; it is
// not there at all hours nor at every carrier, hence Chance; how long it lasts is not known (net4people/bbs 490).
type Freeze struct {
	To          Nets  `toml:"to"`
	ExceptTo    Nets  `toml:"except-to"`
	ExceptNames Names `toml:"except-names"` // in the SNI of TLS or QUIC
	ExceptSSH   bool  `toml:"except-ssh"`
	NoTCP       bool  `toml:"no-tcp"` // looks at UDP alone
	NoUDP       bool  `toml:"no-udp"`
	// Outbound looks only at connections from inside.
	Outbound bool `toml:"outbound"`
	// Packets is how many pass, in both directions together; zero is 25.
	Packets int     `toml:"packets"`
	Chance  float64 `toml:"chance"`
	Then    Then    `toml:"then"`
}

func (r *Freeze) check(place firewall.Place) error {
	if r.Packets < 0 {
		return wrong("packets", "%d is no number of packets", r.Packets)
	}
	if r.NoTCP && r.NoUDP {
		return wrong("no-udp", "with no-tcp nothing is left to count")
	}
	return errors.Join(chance("chance", r.Chance), r.Then.check(place))
}

// Watch counts from the first packet on.
func (r *Freeze) Watch(f *firewall.Flow) firewall.Watcher {
	switch {
	case f.Proto == firewall.TCP && r.NoTCP, f.Proto == firewall.UDP && r.NoUDP,
		f.Proto != firewall.TCP && f.Proto != firewall.UDP,
		r.Outbound && !f.FromInside,
		!r.To.Covers(f.Server.Addr()) || r.ExceptTo.Has(f.Server.Addr()),
		!f.Chance(or(r.Chance, 1)):
		return nil
	}
	return &freezing{rule: r}
}

type freezing struct {
	rule *Freeze
	said spoken
	read bool // what the client said first
}

// Packet implements firewall.Watcher.
func (w *freezing) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if r.ExceptSSH && f.Proto == firewall.TCP && bytes.HasPrefix(p.Payload, sshBanner) {
		do.Done()
		return
	}
	if !w.read && p.FromClient && len(p.Payload) > 0 && len(r.ExceptNames) > 0 {
		hello, err := w.said.read(p, do)
		w.read = !errors.Is(err, look.ErrMore)
		if err == nil && r.ExceptNames.Match(look.ServerName(hello)) != "" {
			do.Done()
			return
		}
	}
	if n := f.FromClient.Packets + f.FromServer.Packets; n >= or(r.Packets, 25) {
		do.Done()
		r.Then.do(f, do, "%d packets, %d bytes", n, f.FromClient.Bytes+f.FromServer.Bytes)
	}
}

var sshBanner = []byte("SSH-2.0-")
