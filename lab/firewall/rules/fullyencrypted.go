package rules

import (
	"errors"
	"math/bits"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// FullyEncrypted looks for connections whose first bytes look like nothing at all: what is not exempt by any of five cheap
// tests of the client's first packet.
//
// China, 2021-11 to 2023-03, towards some hosters, each connection with a probability of 0.263: client to server is
// dropped, by 3-tuple, for 180 s (Wu et al., USENIX Security 2023, and their artifact's detect.py).
type FullyEncrypted struct {
	To     Nets    `toml:"to"`
	Chance float64 `toml:"chance"`
	Then   Then    `toml:"then"`
}

func (r *FullyEncrypted) check(place firewall.Place) error {
	return errors.Join(chance("chance", r.Chance), r.Then.check(place))
}

// Watch looks at the client's first payload.
func (r *FullyEncrypted) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.To.Covers(f.Server.Addr()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *FullyEncrypted) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 {
		return
	}
	do.Done()
	if p.FromClient && looksRandom(p.Payload) {
		r.Then.do(f, do, "first %d bytes look like nothing", len(p.Payload))
	}
}

// looksRandom is detect.py's rule: true unless one of the exemptions holds.
func looksRandom(b []byte) bool {
	ones, printable, run, longest := 0, 0, 0, 0
	for _, c := range b {
		ones += bits.OnesCount8(c)
		if isPrintable(c) {
			printable++
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	mean := float64(ones) / float64(len(b))
	switch {
	case mean <= 3.4 || mean >= 4.6, // Ex1
		len(b) >= 6 && allPrintable(b[:6]), // Ex2
		2*printable > len(b),               // Ex3
		longest > 20,                       // Ex4
		isTLS(b) || isHTTP(b):              // Ex5
		return false
	}
	return true
}

func isPrintable(c byte) bool { return c >= 0x20 && c <= 0x7e }

func allPrintable(b []byte) bool {
	for _, c := range b {
		if !isPrintable(c) {
			return false
		}
	}
	return true
}

func isTLS(b []byte) bool {
	return len(b) >= 3 && (b[0] == 0x16 || b[0] == 0x17) && b[1] == 3 && b[2] <= 9
}

func isHTTP(b []byte) bool {
	for _, verb := range []string{"GET ", "PUT ", "POST ", "HEAD "} {
		if len(b) >= len(verb) && string(b[:len(verb)]) == verb {
			return true
		}
	}
	return false
}
