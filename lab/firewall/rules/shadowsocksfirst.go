package rules

import (
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// ShadowsocksFirst has servers probed whose clients' first packet could be Shadowsocks's, by its length and entropy. By
// itself it blocks nothing: what the prober finds may.
//
// China, 2019 on (Alice et al., IMC 2020): first packets of 160 to 700 bytes, 999 at most; of 7.2 bits a byte about four
// times as likely as of 3.0; the remainder of the length by 16 is 9 for 72 % of those of 168 to 263 bytes, 9 for 37 % and 2
// for 32 % of those of 264 to 383, 2 for 96 % of those of 384 to 687. One packet was enough; an early report saw probes from
// 13 connections on (net4people/bbs 22). How likely a packet at best is was not published, nor whether TLS and HTTP are
// looked at: parameters.
type ShadowsocksFirst struct {
	Aim
	// Length is the least and the most; zero is 160 to 999.
	Length [2]int `toml:"length"`
	// Best is how likely a packet is found that has the likeliest length and the entropy of random bytes; zero is 1.
	Best float64 `toml:"best"`
	// Connections is how many a server must have had found, in a day; zero is 1.
	Connections int `toml:"connections"`
	// Known looks at flows too that begin like TLS, HTTP or SSH.
	Known bool `toml:"known"`

	servers tally[netip.AddrPort]
}

func (r *ShadowsocksFirst) check(firewall.Place) error {
	if r.Length[0] < 0 || r.Length[0] > r.Length[1] {
		return wrong("length", "wants the least and the most, as [160, 999]")
	}
	return errors.Join(r.checkAim(), chance("best", r.Best), positive("connections", r.Connections))
}

// Watch looks at the first packet with data.
func (r *ShadowsocksFirst) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *ShadowsocksFirst) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	b := p.Payload
	if len(b) == 0 {
		return
	}
	do.Done()
	length := or(r.Length, [2]int{160, 999})
	if !p.FromClient || len(b) < length[0] || len(b) > length[1] || !r.Known && known(b) ||
		!f.Chance(or(r.Best, 1)*byLength(len(b))*byEntropy(entropy(b))) {
		return
	}
	if n := r.servers.add(p.At, 24*time.Hour, f.Server).count; n >= or(r.Connections, 1) {
		do.Fired("a first packet of %d bytes, %.1f bits each; connection %d", len(b), entropy(b), n)
		do.Suspect("a first packet like Shadowsocks's")
	}
}

// byLength is how likely a length is replayed, the likeliest being 1: the share of its remainder among the replayed of its
// class. Outside of the classes, and for what is left over in one, all remainders have an equal part.
func byLength(n int) float64 {
	type share struct {
		remainder int
		part      float64
	}
	var shares []share
	switch {
	case n >= 168 && n <= 263:
		shares = []share{{9, 0.72}}
	case n >= 264 && n <= 383:
		shares = []share{{9, 0.37}, {2, 0.32}}
	case n >= 384 && n <= 687:
		shares = []share{{2, 0.96}}
	}
	left := 1.0
	for _, s := range shares {
		if n%16 == s.remainder {
			return s.part / 0.96
		}
		left -= s.part
	}
	return left / float64(16-len(shares)) / 0.96
}

// byEntropy is how likely bits of entropy a byte are replayed, random bytes being 1: a line through the two that were
// measured, not below a quarter.
func byEntropy(bits float64) float64 {
	return min(1, max(0.25, 0.25+0.75*(bits-3)/(7.2-3)))
}

// entropy is Shannon's, in bits a byte.
func entropy(b []byte) (bits float64) {
	var count [256]int
	for _, c := range b {
		count[c]++
	}
	for _, n := range count {
		if n > 0 {
			share := float64(n) / float64(len(b))
			bits -= share * math.Log2(share)
		}
	}
	return bits
}
