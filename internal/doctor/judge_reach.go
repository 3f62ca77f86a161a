package doctor

import (
	"fmt"
	"slices"
)

// placeState is what came back from a place.
func (j *judge) placeState(place int) (opened, answered bool) {
	for _, c := range j.Connects {
		if c.Place == place {
			opened = opened || c.Outcome == OK
			answered = answered || c.Outcome == OK || c.Outcome == Refused
		}
	}
	for _, d := range j.Datagrams {
		answered = answered || d.Place == place && d.share() > 0
	}
	return opened, answered
}

// online reports whether anything of the gateway answers, and otherwise names why not.
func (j *judge) online() bool {
	any, routed := false, false
	for place := range j.Places {
		_, answered := j.placeState(place)
		any = any || answered
	}
	for _, c := range j.Connects {
		routed = routed || c.Outcome != NoRoute
	}
	if any {
		return true
	}
	heard := slices.ContainsFunc(j.Resolvers, func(r Resolver) bool { return r.Outcome == OK || r.Outcome == Refused })
	lookups := slices.ContainsFunc(j.Lookups, func(l Lookup) bool { return l.Found })
	heard = heard || lookups
	switch {
	case !heard && (j.Addresses == 0 || !routed && len(j.Connects) > 0):
		evidence := []string{"this machine has no address of its own"}
		if j.Addresses > 0 {
			evidence = []string{"this machine has an address, and no way to anywhere"}
		}
		j.find(Finding{Kind: NoNetwork, Confidence: High, Place: -1}, evidence...)
	case !heard && len(j.Resolvers) > 0:
		j.find(Finding{Kind: NoNetwork, Confidence: Medium, Place: -1, How: string(Silent)},
			"none of the gateway's addresses answers in any way", "no resolver answers")
	case len(j.Places) == 0:
		j.find(Finding{Kind: Unreachable, Confidence: High, Place: -1, How: "lookup"}, "the gateway's name was not found")
	default:
		evidence := []string{"none of the gateway's addresses answers in any way"}
		if heard {
			evidence = append(evidence, "a resolver answers, so this machine is connected to something")
		}
		j.find(Finding{Kind: Unreachable, Confidence: High, Place: -1}, evidence...)
	}
	return false
}

// somebodyElse looks for a portal, or whoever answers in the gateway's stead everywhere.
func (j *judge) somebodyElse() bool {
	ours, others := 0, 0
	for _, h := range j.Hellos {
		switch h.Key {
		case gatewaysKey:
			ours++
		case othersKey:
			others++
		}
	}
	home, away, pages := 0, 0, 0
	for _, s := range j.Plains {
		switch {
		case s.Name != 0 || s.Outcome != OK:
		case s.Home:
			home++
		case s.Away || s.Status == 511: // RFC 6585, section 6
			away++
		default:
			pages++
		}
	}
	switch {
	case ours > 0 || home > 0 && others == 0 || others+away == 0:
		return false
	case away > 0:
		f := Finding{Kind: CaptivePortal, Confidence: High, Place: -1}
		evidence := []string{"asked without TLS, the gateway's address sends to another site"}
		if others > 0 {
			evidence = append(evidence, "in TLS it shows another key than the gateway's")
		} else {
			f.Confidence = Medium
		}
		j.find(f, evidence...)
	default:
		evidence := []string{fmt.Sprintf("in TLS another key than the gateway's was shown %d times", others)}
		if pages > 0 {
			evidence = append(evidence, "asked without TLS, the answer is no gateway's")
		}
		j.find(Finding{Kind: SomebodyElse, Confidence: High, Place: -1}, evidence...)
	}
	return true
}

// reach looks at addresses and ports.
func (j *judge) reach() {
	var slow, all int
	for _, c := range j.Connects {
		if c.Outcome == OK {
			if all++; askedAgain(c.MS) {
				slow++
			}
		}
	}
	if all >= 5 && 5*slow >= all {
		j.find(Finding{Kind: Lossy, Confidence: Medium, Place: -1, Share: float64(slow) / float64(all)},
			fmt.Sprintf("of %d connections that were made, %d had to ask again", all, slow))
	}
	for place := range j.Places {
		if _, answered := j.placeState(place); !answered {
			if j.routeless(place) {
				j.cannot("what becomes of the gateway's address %d: this machine has no way to such addresses", place+1)
				continue
			}
			if !j.spoken(j.Places[place].IPv6) {
				j.cannot("what becomes of the gateway's address %d: nothing of its kind, IPv4 or IPv6, answers from here at all", place+1)
				continue
			}
			j.find(Finding{Kind: AddressBlocked, Confidence: Medium, Place: place}, fmt.Sprintf("of address %d nothing comes back, at "+
				"%d attempts", place+1, j.attempts(place)), "another address of the gateway's answers")
			continue
		}
		if !j.tcp(place) {
			j.find(Finding{Kind: AddressBlocked, Confidence: Medium, Place: place, How: "tcp"}, fmt.Sprintf("of address %d nothing comes "+
				"back by TCP, at %d attempts", place+1, j.attempts(place)), "UDP does")
			continue
		}
		for _, port := range j.Places[place].Ports {
			if j.opens(place, port) {
				continue
			}
			switch j.how(place, port) {
			case Silent:
				j.find(Finding{Kind: PortBlocked, Confidence: Medium, Place: place, Port: port}, fmt.Sprintf("TCP port %d of address %d "+
					"does not answer", port, place+1), "another port of that address does")
			case Refused, Reset:
				j.find(Finding{Kind: PortRefused, Confidence: High, Place: place, Port: port},
					fmt.Sprintf("TCP port %d of address %d is refused, in its name", port, place+1))
			default:
				j.cannot("what becomes of TCP port %d of address %d", port, place+1)
			}
		}
	}
}

// tcp reports whether anything of a place comes back by TCP.
func (j *judge) tcp(place int) bool {
	return slices.ContainsFunc(j.Connects, func(c Connect) bool { return c.Place == place && (c.Outcome == OK || c.Outcome == Refused) })
}

// askedAgain reports whether a connection took as long as it does if the first packet is lost, or the second, too: systems
// ask again after one and three seconds, and a busy machine is late by some other time.
func askedAgain(ms float64) bool {
	return ms >= 1000 && ms < 1450 || ms >= 3000 && ms < 3450
}

func (j *judge) routeless(place int) bool {
	return !slices.ContainsFunc(j.Connects, func(c Connect) bool { return c.Place == place && c.Outcome != NoRoute })
}

// spoken reports whether anything of the gateway's answers by IPv6, or by IPv4: half of all networks have one of them only.
func (j *judge) spoken(ipv6 bool) bool {
	for place, p := range j.Places {
		if _, answered := j.placeState(place); answered && p.IPv6 == ipv6 {
			return true
		}
	}
	return false
}

func (j *judge) attempts(place int) (n int) {
	for _, c := range j.Connects {
		if c.Place == place {
			n++
		}
	}
	return n
}

// how is the last outcome of connecting.
func (j *judge) how(place int, port uint16) (o Outcome) {
	for _, c := range j.Connects {
		if c.Place == place && c.Port == port {
			o = c.Outcome
		}
	}
	return o
}
