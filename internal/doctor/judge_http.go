package doctor

import "fmt"

// http looks at requests without TLS.
func (j *judge) http() {
	for place := range j.Places {
		var ok, cut, strange int
		var how, last Outcome
		port := uint16(0)
		for _, s := range j.Plains {
			if s.Place != place || s.Name != 0 {
				continue
			}
			port, last = s.Port, s.Outcome
			switch {
			case s.Outcome == OK && s.Home:
				ok++
			case s.Outcome == OK:
				strange++
			case s.Outcome.cut():
				cut++
				how = s.Outcome
			}
		}
		opened := j.opens(place, port)
		switch {
		case port == 0 || ok > 0:
		case cut > 0 && opened:
			j.find(Finding{Kind: HTTPCut, Confidence: Medium, Place: place, Port: port, How: string(how)},
				fmt.Sprintf("TCP connects, and a request without TLS at address %d is cut, whatever it says", place+1))
		case cut > 0 && last == Silent && j.door(place) != 0:
			j.find(Finding{Kind: PortBlocked, Confidence: Medium, Place: place, Port: port},
				fmt.Sprintf("TCP port %d of address %d does not answer", port, place+1), "another port of that address does")
		default:
			j.cannot("whether names in HTTP are minded at address %d: without one its port %d has no gateway's answer", place+1, port)
		}
	}
	for name := 1; name < len(j.Names); name++ {
		for place := range j.Places {
			ok, cut, page, how := 0, 0, 0, Outcome("")
			port := uint16(0)
			for _, s := range j.Plains {
				if s.Place != place || s.Name != name {
					continue
				}
				switch port = s.Port; {
				case s.Outcome == OK && s.Home:
					ok++
				case s.Outcome == OK:
					page = s.Status
				case s.Outcome.cut():
					cut++
					how = s.Outcome
				}
			}
			f := Finding{Kind: HTTPName, Confidence: High, Place: place, Port: port, Name: name, How: string(how)}
			switch {
			case page != 0:
				f.How = "page"
				j.find(f, append([]string{fmt.Sprintf("with the name in Host an answer with status %d comes that is not the gateway's", page)},
					j.residual(&f, "http")...)...)
			case cut > 0:
				e := j.residual(&f, "http")
				j.find(f, append([]string{fmt.Sprintf("with the name in Host %d of %d requests were cut, without it none", cut, ok+cut)}, e...)...)
			}
		}
	}
}
