package doctor

import (
	"fmt"
	"slices"
)

// dns looks at answers.
func (j *judge) dns() {
	for name := 1; name < len(j.Names); name++ {
		j.dnsName(name)
	}
}

// answered are the questions for a name to a resolver, -1 to nobody's.
func (o *Observations) answered(resolver, name int, tcp bool) (all []Question) {
	for _, q := range o.Questions {
		if q.Resolver == resolver && q.Name == name && q.TCP == tcp {
			all = append(all, q)
		}
	}
	return all
}

func mostAnswers(all []Question) (most int) {
	for _, q := range all {
		most = max(most, len(q.Answers))
	}
	return most
}

// allAnswered reports whether each question was.
func allAnswered(all []Question) bool {
	return !slices.ContainsFunc(all, func(q Question) bool { return len(q.Answers) == 0 })
}

func (j *judge) dnsName(name int) {
	f := Finding{Kind: DNSForged, Confidence: High, Place: -1, Name: name, UDP: true}
	var evidence []string
	if mostAnswers(j.answered(-1, 0, false)) > 0 {
		if !j.was(DNSIntercepted) {
			j.find(Finding{Kind: DNSIntercepted, Confidence: High, Place: -1, UDP: true},
				"an address that runs no resolver answers questions about any name")
		}
		return
	}
	if n := mostAnswers(j.answered(-1, name, false)); n > 0 {
		f.Injectors = n
		evidence = append(evidence, fmt.Sprintf("an address that runs no resolver answers questions about the name, with up to %d answers "+
			"each; about a made-up name it does not", n))
	}
	swallowed, asked := 0, 0
	for i := range j.Resolvers {
		udp, tcp, control := j.answered(i, name, false), j.answered(i, name, true), j.answered(i, 0, false)
		if len(udp) == 0 || mostAnswers(control) == 0 {
			continue
		}
		asked++
		n := mostAnswers(udp)
		switch truth := trueClass(tcp); {
		case f.Injectors > 0 && n > f.Injectors:
			f.Path = "on-path"
			evidence = append(evidence, fmt.Sprintf("resolver %d's own answer comes, too, after the others", i+1))
		case f.Injectors > 0 && n == f.Injectors && f.Path == "" && distinct(udp, truth):
			f.Path = "in-path"
			evidence = append(evidence, fmt.Sprintf("resolver %d's own answer does not come", i+1))
		case f.Injectors > 0:
		case n > 1 && differs(udp):
			f.Injectors, f.Path = n-1, "on-path"
			evidence = append(evidence, fmt.Sprintf("to one question to resolver %d, %d answers came, and not the same", i+1, n))
		case n > 0 && truth > 0 && bogus(udp) && distinct(udp, truth):
			f.Injectors, f.Path = n, "in-path"
			evidence = append(evidence, fmt.Sprintf("resolver %d says over UDP what cannot be, and over TCP something else", i+1))
		case n == 0 && len(udp) > 2 && len(control) > 1 && allAnswered(control):
			swallowed++
		}
		if cutAll(tcp) && trueClass(j.answered(i, 0, true)) > 0 {
			evidence = append(evidence, fmt.Sprintf("asked over TCP, resolver %d is cut off for the name", i+1))
		}
	}
	switch {
	case f.Injectors > 0:
		if f.Path == "" {
			f.Path = "unknown"
		}
		j.find(f, evidence...)
	case swallowed > 0:
		j.find(Finding{Kind: DNSSwallowed, Confidence: High, Place: -1, Name: name, UDP: true, How: string(Silent)},
			fmt.Sprintf("%d of %d resolvers answer questions about a made-up name, and none about this one", swallowed, asked))
	case asked == 0:
		j.cannot("whether answers about name %d are forged by resolvers: none answers", name)
	}
}

// trueClass is what was said over TCP; zero if nothing was.
func trueClass(tcp []Question) int {
	for _, q := range tcp {
		for _, a := range q.Answers {
			return a.Class
		}
	}
	return 0
}

// cutAll reports whether every question was cut off.
func cutAll(all []Question) bool {
	return len(all) > 0 && !slices.ContainsFunc(all, func(q Question) bool { return q.Outcome != Reset && q.Outcome != Closed && q.Outcome != Silent })
}

// differs reports whether one question got different answers.
func differs(all []Question) bool {
	return slices.ContainsFunc(all, func(q Question) bool {
		return slices.ContainsFunc(q.Answers, func(a Answer) bool { return a.Class != q.Answers[0].Class })
	})
}

// distinct reports whether no answer says what class does.
func distinct(all []Question, class int) bool {
	return !slices.ContainsFunc(all, func(q Question) bool {
		return slices.ContainsFunc(q.Answers, func(a Answer) bool { return a.Class == class })
	})
}

// bogus reports whether all answers are ones that a name on the Internet cannot have.
func bogus(all []Question) bool {
	return !slices.ContainsFunc(all, func(q Question) bool {
		return slices.ContainsFunc(q.Answers, func(a Answer) bool { return !a.Private && a.Code == 0 })
	})
}
