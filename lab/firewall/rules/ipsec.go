package rules

import (
	"slices"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// IPsec looks for key exchanges of IPsec at any UDP port, and for ESP and AH, bare or in UDP.
//
// The bounds of a key exchange are nDPI's (ipsec.c; see look.IKE). Providers drop ports 500 and 4500 (hwdsl2/setup-ipsec-vpn
// 397); Russia had trouble with IPsec from the day it blocked OpenVPN (net4people/bbs 274). No measurement of any censor's
// parameters is known, so which of the signs are looked for, at which ports, and how many packets it takes are parameters.
type IPsec struct {
	Aim
	// Signs are "ikev1", "ikev2", "esp" (IP protocol 50), "ah" (51) and "nat-t" (ESP in UDP at port 4500). Empty is all.
	// Of NAT-T, numbers that count up under one SPI are the sign.
	Signs []string `toml:"signs"`
	// Packets is how many it takes; zero is 1, and 3 of NAT-T.
	Packets int  `toml:"packets"`
	Then    Then `toml:"then"`
}

func (r *IPsec) check(place firewall.Place) error {
	for _, s := range r.Signs {
		if err := oneOf("signs", s, "ikev1", "ikev2", "esp", "ah", "nat-t"); err != nil {
			return err
		}
	}
	return checkAll(&r.Aim, &r.Then, place, positive("packets", r.Packets))
}

func (r *IPsec) has(sign string) bool { return len(r.Signs) == 0 || slices.Contains(r.Signs, sign) }

// Watch looks at UDP, ESP and AH.
func (r *IPsec) Watch(f *firewall.Flow) firewall.Watcher {
	switch {
	case f.Proto == firewall.ESP && r.has("esp"), f.Proto == firewall.AH && r.has("ah"), f.Proto == firewall.UDP:
		ports := r.Ports
		if f.Proto != firewall.UDP {
			ports = nil // they have none
		}
		if aim := (Aim{r.To, ports, r.Outbound, r.Chance}); aim.at(f) {
			return &ipsec{rule: r}
		}
	}
	return nil
}

type ipsec struct {
	rule  *IPsec
	found int
	// Of NAT-T, each way.
	spi, number [2]uint32
}

// maxStrange is how many packets that are nothing of IPsec's end the interest in a flow.
const maxStrange = 10

func (w *ipsec) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	sign, least := w.sign(f, p.Payload, side(p))
	if sign == "" || !w.rule.has(sign) {
		if f.FromClient.Packets+f.FromServer.Packets > maxStrange {
			do.Done()
		}
		return
	}
	if w.found++; w.found >= or(w.rule.Packets, least) {
		do.Done()
		w.rule.Then.do(f, do, "%s", sign)
	}
}

// sign says what a packet is, and how many are wanted.
func (w *ipsec) sign(f *firewall.Flow, b []byte, side int) (string, int) {
	switch f.Proto {
	case firewall.ESP:
		return "esp", 1
	case firewall.AH:
		return "ah", 1
	}
	switch version, _ := look.IKE(b); version {
	case 1:
		return "ikev1", 1
	case 2:
		return "ikev2", 1
	}
	const natT = 4500
	if spi, number, err := look.ESPinUDP(b); err == nil && (f.Server.Port() == natT || f.Client.Port() == natT) {
		counts := spi == w.spi[side] && number > w.number[side] && number-w.number[side] < 1000 || w.spi[side] == 0 && number < 1000
		w.spi[side], w.number[side] = spi, number
		if counts {
			return "nat-t", 3
		}
	}
	return "", 0
}

// side is an index for the client's and the server's.
func side(p *firewall.Packet) int {
	if p.FromClient {
		return 0
	}
	return 1
}
