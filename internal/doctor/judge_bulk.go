package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// bulk looks at connections without a name that carry more than a page.
func (j *judge) bulk() {
	var cut []Bulk
	good, small := 0, true
	f := Finding{Kind: Freeze, Confidence: High}
	for _, b := range j.Bulks {
		switch {
		case b.Name != 0:
		case b.Outcome == OK:
			good++
		case b.Outcome.cut() && b.Stage != AtConnect:
			small = small && j.lastHello(b.Place) == OK
			if f.Place, f.Port = b.Place, b.Port; len(cut) > 0 && cut[0].Place != b.Place {
				f.Place, f.Port = -1, 0
			}
			cut = append(cut, b)
		}
	}
	if len(cut) > 0 {
		least, most := cut[0].Bytes, 0
		for _, b := range cut {
			least, most = min(least, b.Bytes), max(most, b.Bytes)
		}
		f.Bytes, f.How = (least+most)/2, string(cut[0].Outcome)
		evidence := []string{fmt.Sprintf("%d connections stood still after %s", len(cut), kilobytes(least, most))}
		if small {
			evidence = append(evidence, "small ones pass before and after")
		}
		if good > 0 {
			evidence = append(evidence, "another one did not")
		}
		if len(cut) < 2 || good > 0 || !small {
			f.Confidence = Medium
		}
		j.find(f, evidence...)
	}
	for place := range j.Places {
		var slow []Bulk
		all := 0
		for _, b := range j.Bulks {
			if b.Place == place && b.Name == 0 && b.Outcome == OK {
				if all++; b.slow() {
					slow = append(slow, b)
				}
			}
		}
		if len(slow) >= 2 && len(slow) == all {
			j.find(Finding{Kind: Slow, Confidence: High, Place: place, Rate: slow[0].Rate}, fmt.Sprintf("%s in %.1f s, without a name",
				kilobytes(slow[0].Bytes, slow[0].Bytes), slow[0].Seconds), fmt.Sprintf("and %d times more", len(slow)-1))
			return
		}
	}
}

// slow reports whether a connection carried little for its time.
func (b *Bulk) slow() bool { return b.Outcome == OK && b.Seconds > 3 && b.Rate < slowRate }

// slowRate is below what a network is called slow, in bits a second.
const slowRate = 300_000

// namedBulk looks at connections with a name that carry more than a page.
func (j *judge) namedBulk(name int) {
	for place := range j.Places {
		var neutral, with []float64
		var cut []Bulk
		for _, b := range j.Bulks {
			switch {
			case b.Place != place || b.Name != 0 && b.Name != name:
			case b.Name == 0 && b.Outcome != OK:
			case b.Name == 0:
				neutral = append(neutral, b.Rate)
			case b.Outcome == OK, b.Outcome == Silent && b.Bytes > bulkBytes/2: // one that was long under way was held up at most
				with = append(with, b.Rate)
			case b.Name == name && b.Outcome.cut():
				cut = append(cut, b)
			}
		}
		if len(neutral) == 0 || len(with)+len(cut) < 2 {
			continue
		}
		slowest := slices.Min(neutral)
		switch {
		case len(cut) == 0 && slices.Max(with) < slowest/slower:
			f := Finding{Kind: Throttled, Confidence: High, Place: place, Port: j.door(place), Name: name, Rate: slices.Max(with)}
			if len(neutral) < 2 {
				f.Confidence = Medium
			}
			j.find(f, fmt.Sprintf("with the name it carries %s at most, %d times; without one %s at least, before and after",
				rate(f.Rate), len(with), rate(slowest)))
		case len(cut) >= 2 && len(with) == 0 && !j.was(TLSName):
			f := Finding{Kind: TLSName, Confidence: Medium, Place: place, Port: j.door(place), Name: name, How: string(cut[0].Outcome),
				Bytes: cut[0].Bytes}
			j.find(f, fmt.Sprintf("with the name %d connections were cut after %s; without one none", len(cut), kilobytes(cut[0].Bytes,
				cut[1].Bytes)))
		}
	}
}

// stopped reports whether datagrams were answered up to one, and none after it.
func (d *Datagrams) stopped() (after int, stopped bool) {
	last := strings.LastIndexByte(d.Answered, '1')
	if last < 2 || len(d.Answered)-last-1 < 6 {
		return 0, false
	}
	begin := Datagrams{Answered: d.Answered[:last+1]}
	// A server that was too busy for some of them is not so for all of a hundred.
	return last + 1, begin.share() > 0.95 || begin.share() > 0.5 && len(d.Answered)-last-1 > 100
}

// frozen is after how many datagrams new sockets stop being answered; zero if they do not. One that was asked slowly is enough;
// of those that were asked in haste, which a busy server stops answering, too, two have to agree.
func frozen(all []Datagrams) int {
	if after, ok := all[0].stopped(); ok {
		return after
	}
	if len(all) < 5 {
		return 0
	}
	a, ok := all[2].stopped()
	b, ok2 := all[4].stopped()
	if !ok || !ok2 || max(a, b)-min(a, b) > 2+min(a, b)/10 {
		return 0
	}
	return a
}

// udp looks at QUIC's port without QUIC.
func (j *judge) udp() {
	asked := false
	for place := range j.Places {
		var all []Datagrams
		for _, d := range j.Datagrams {
			if d.Place == place {
				all = append(all, d)
			}
		}
		if len(all) == 0 {
			continue
		}
		asked = true
		few := all[0]
		if few.share() == 0 {
			j.noUDP(few)
			continue
		}
		if after := frozen(all); after > 0 {
			j.find(Finding{Kind: Freeze, Confidence: High, Place: place, Port: few.Port, UDP: true, How: string(Silent), Packets: 2 * after},
				fmt.Sprintf("on one socket %d datagrams were answered, and none after them", after), "on other sockets some were answered then")
			continue
		}
		if j.was(Lossy) {
			continue
		}
		if lost := 1 - few.share(); lost > 1-mostlyAnswered {
			j.find(Finding{Kind: UDPLossy, Confidence: High, Place: place, Port: few.Port, UDP: true, Share: lost},
				fmt.Sprintf("of %d datagrams, or their answers, %.0f %% were lost", len(few.Answered), 100*lost),
				"TCP to the same address loses little")
			continue
		}
		if len(all) < 5 || all[1].share() >= mostlyAnswered {
			continue
		}
		old, fresh := []Datagrams{all[1], all[3]}, []Datagrams{all[2], all[4]}
		late := Datagrams{Answered: old[1].Answered[len(old[1].Answered)/2:]}
		carried := old[1].Rate * late.share()
		evidence := fmt.Sprintf("%s were sent twice on a socket %.0f s old, and %s got through", rate(old[1].Rate), old[0].Age, rate(carried))
		held := func(d Datagrams) bool { return d.share() < mostlyAnswered }
		switch slow := slices.ContainsFunc(fresh, held); {
		case held(old[1]) && !slow:
			j.find(Finding{Kind: UDPPoliced, Confidence: High, Place: place, Port: few.Port, UDP: true, Rate: carried}, evidence,
				"each time, the same on a new socket got through")
		case held(old[1]) && held(fresh[0]) && held(fresh[1]):
			j.find(Finding{Kind: UDPSlow, Confidence: High, Place: place, Port: few.Port, UDP: true, Rate: carried}, evidence,
				"on new sockets it is no better")
		default:
			j.cannot("whether UDP is held to a rate at address %d: losses came and went", place+1)
		}
	}
	if !asked {
		j.cannot("what becomes of UDP and QUIC: neither the access key nor the website says that the gateway speaks QUIC")
	}
}

// noUDP is for a place whose QUIC port is mute.
func (j *judge) noUDP(d Datagrams) {
	silent, refused := 0, 0
	for _, i := range j.Initials {
		if i.Place == d.Place {
			switch i.Outcome {
			case Silent:
				silent++
			case Refused:
				refused++
			case OK:
				j.cannot("what becomes of QUIC at address %d: it answers one kind of question and not the other", d.Place+1)
				return
			}
		}
	}
	opened, _ := j.placeState(d.Place)
	if d.Refused || refused > 0 || silent == 0 || !opened {
		j.cannot("what becomes of QUIC at address %d: it has none, or nothing else of it answers either", d.Place+1)
		return
	}
	j.find(Finding{Kind: QUICBlocked, Confidence: Medium, Place: d.Place, Port: d.Port, UDP: true, How: string(Silent)},
		fmt.Sprintf("UDP port %d of address %d answers nothing, where there should be QUIC", d.Port, d.Place+1), "TCP to that address passes")
}
