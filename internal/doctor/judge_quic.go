package doctor

import (
	"fmt"
	"slices"
)

// quic looks at first datagrams, where UDP passes.
func (j *judge) quic() {
	for place := range j.Places {
		if j.was(UDPLossy) || j.was(Lossy) {
			j.cannot("whether QUIC's names or versions are minded: too much is lost to tell")
			return
		}
		passes := slices.ContainsFunc(j.Datagrams, func(d Datagrams) bool { return d.Place == place && d.share() > 0 })
		if !passes {
			continue
		}
		var one, two struct{ ok, silent int }
		port := uint16(0)
		for _, i := range j.Initials {
			if i.Place != place || i.Name != 0 {
				continue
			}
			port = i.Port
			v := &one
			if i.Version == 2 {
				v = &two
			}
			switch i.Outcome {
			case OK:
				v.ok++
			case Silent:
				v.silent++
			}
		}
		f := Finding{Kind: QUICVersion, Confidence: High, Place: place, Port: port, UDP: true, How: string(Silent)}
		switch {
		case one.ok > 0 && two.ok == 0 && two.silent > 1:
			f.Version = 2
			j.find(f, "QUIC of version 2 gets no answer; of version 1 it does")
		case one.ok == 0 && one.silent > 1 && two.ok > 0:
			f.Version = 1
			j.find(f, "QUIC of version 1 gets no answer; of version 2 it does, and questions for versions do, too")
		case one.ok == 0 && one.silent > 1 && two.silent > 0:
			f.Confidence = Medium
			j.find(f, "QUIC of versions 1 and 2 gets no answer; questions for versions of the same size do")
		}
		if one.ok == 0 {
			continue
		}
		for name := 1; name < len(j.Names); name++ {
			j.quicName(place, name)
		}
	}
}

func (j *judge) quicName(place, name int) {
	var bad, tries int
	f := Finding{Kind: QUICName, Confidence: High, Place: place, Name: name, UDP: true, How: string(Silent)}
	split := Outcome("")
	frozen := slices.ContainsFunc(j.found, func(f Finding) bool { return f.Kind == Freeze && f.UDP })
	for _, i := range j.Initials {
		if i.Place != place || i.Name != name {
			continue
		}
		if frozen {
			i.Again = Untested // a second beginning on a socket can be too much for it, whatever it says
		}
		f.Port = i.Port
		if i.Split {
			split = i.Outcome
			if i.Again == Silent || i.Fresh == Silent {
				split = Silent
			}
			continue
		}
		tries++
		switch {
		case i.Fresh == Silent:
			f.Scope = serverPort
		case i.Again == Silent && f.Scope == "":
			f.Scope = connection
		}
		if i.Outcome == Silent || i.Again == Silent || i.Fresh == Silent {
			bad++
		}
	}
	if bad == 0 || bad < 2 && f.Scope != serverPort { // once can be an accident
		return
	}
	evidence := []string{fmt.Sprintf("with the name %d of %d beginnings, or what came after them, got no answer; without one all did", bad, tries)}
	if split == OK {
		f.Hello = Small
		evidence = append(evidence, "a hello in two datagrams, as browsers send it, passes with the name")
	}
	j.find(f, evidence...)
}
