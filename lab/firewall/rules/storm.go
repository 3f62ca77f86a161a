package rules

import (
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Storm resets every connection to a port for a while, whoever it is to.
//
// China, 2025-08-20, from 00:34 to 01:48 (gfw.report, "unconditional port 443 block"; net4people/bbs 511): at TCP port 443,
// and at no other, each SYN from inside and each SYN+ACK from either side draws three RST+ACK, whose window and TTL rise by
// one from each to the next: windows of 1980 to 1982 for a SYN, of 3293 to 3295 for a SYN+ACK, in the one recording that was
// published. For a connection from outside only the SYN+ACK does. They go to the client, in the server's name.
type Storm struct {
	Ports []int `toml:"ports"` // empty is 443
	// Start is when it begins, after the box did; For is how long it lasts, zero is 74 minutes.
	Start Dur `toml:"start"`
	For   Dur `toml:"for"`
}

func (r *Storm) check(firewall.Place) error { return nil }

// Watch looks for SYNs.
func (r *Storm) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || len(r.Ports) == 0 && f.Server.Port() != 443 || !portIn(r.Ports, f.Server.Port()) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *Storm) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.Is(firewall.SYN) {
		do.Done() // what is open stays open
		return
	}
	start := time.Duration(r.Start)
	if p.At < start || p.At >= start+or(time.Duration(r.For), 74*time.Minute) || !p.Is(firewall.ACK) && !f.FromInside {
		return
	}
	window := uint16(1980)
	if p.Is(firewall.ACK) {
		window = 3293
	}
	do.Fired("the storm, for a packet with flags %#02x", p.Flags)
	ttl := uint8(60 + f.IntN(60))
	for n := range uint8(3) {
		reset := do.Next(false, firewall.RST|firewall.ACK)
		reset.TTL, reset.Window, reset.DF = ttl+n, window+uint16(n), true
		do.Send(reset)
	}
}
