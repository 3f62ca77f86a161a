package doctor

import (
	"fmt"
	"math"
	"slices"
)

// hellosOf counts a place's hellos of a kind with a name. Those without a real one count up to the first with one, and to
// the first after which nothing passed any more: what is cut then may be so for what was said before.
func (j *judge) hellosOf(place int, kind string, name int) (ok, cut, in int, how Outcome) {
	all := j.Hellos
	if name <= 0 {
		all, _ = j.neutral(place)
	}
	for _, h := range all {
		if h.Place != place || h.Hello != kind || h.Name != name {
			continue
		}
		if h.Outcome == OK {
			ok++
		} else if h.Outcome.cut() {
			cut++
			how, in = h.Outcome, max(in, h.In)
		}
	}
	return ok, cut, in, how
}

// neutral are a place's hellos without a real name; up to one after which what had passed did not pass any more, if blocked.
func (j *judge) neutral(place int) (all []Hello, blocked bool) {
	good := -1
	for _, h := range j.Hellos {
		if h.Place != place || h.At >= j.firstNamed() {
			continue
		}
		if n := len(all); n > 0 && good >= 0 && good < n-1 && all[n-1].Outcome.cut() && h.Outcome.cut() && h.Hello == all[good].Hello &&
			h.Name == all[good].Name {
			return all, true
		}
		if all = append(all, h); h.Outcome == OK && good < 0 {
			good = len(all) - 1
		}
	}
	return all, false
}

// firstNamed is when the first hello with a name was said: what happens to those without one after it may be its doing.
func (j *judge) firstNamed() float64 {
	for _, h := range j.Hellos {
		if h.Name > 0 {
			return h.At
		}
	}
	return math.Inf(1)
}

// tls looks at hellos without a name.
func (j *judge) tls() {
	type cutPlace struct {
		place, in int
		how       Outcome
	}
	var dead []cutPlace
	for place := range j.Places {
		j.anyName(place)
		kinds := map[string]bool{} // passes
		var cutKinds []string
		in, how := 0, Outcome("")
		for _, kind := range []string{Browser, Plainly, Small} {
			ok, cut, came, h := j.hellosOf(place, kind, 0)
			if ok > 0 {
				kinds[kind] = true
			} else if cut > 0 {
				cutKinds = append(cutKinds, kind)
				in, how = max(in, came), h
			}
		}
		switch {
		case len(cutKinds) == 0:
		case len(kinds) == 0 && j.namedOnly(place):
		case len(kinds) == 0:
			dead = append(dead, cutPlace{place, in, how})
		default:
			f := Finding{Kind: TLSFingerprint, Confidence: High, Place: -1, Hello: Browser, How: string(how)}
			passes := "a Go program's"
			if kinds[Browser] {
				f.Hello, passes = Plainly, "the browser's"
				if !slices.Contains(cutKinds, Plainly) {
					f.Hello = Small
				}
			}
			evidence := []string{fmt.Sprintf("at address %d %s was cut each time", place+1, helloWord(f.Hello)), passes + " passed"}
			if _, blocked := j.neutral(place); blocked {
				f.Confidence, f.Scope = Medium, serverPort
				evidence = append(evidence, "then nothing passed any more, for a while")
			}
			if !j.same(f) {
				j.find(f, evidence...)
			}
		}
	}
	if j.was(TLSFingerprint) || j.was(TLSNameless) {
		return
	}
	for _, d := range dead {
		f := Finding{Kind: TLSCut, Confidence: Medium, Place: d.place, Port: j.door(d.place), How: string(d.how)}
		j.find(f, fmt.Sprintf("TCP connects, and TLS at address %d is cut each time: as the browser's and as a Go program's, with no name", d.place+1))
		j.cannot("whether a name, much data or bursts are minded at address %d: TLS does not get that far", d.place+1)
	}
}

// namedOnly reports whether hellos pass that say a made-up name, and those that say none do not.
func (j *judge) namedOnly(place int) bool {
	ok, _, _, _ := j.hellosOf(place, Browser, MadeUp)
	if ok == 0 {
		return false
	}
	_, _, _, how := j.hellosOf(place, Browser, 0)
	if j.was(TLSNameless) {
		return true
	}
	j.find(Finding{Kind: TLSNameless, Confidence: High, Place: -1, How: string(how)},
		fmt.Sprintf("at address %d the browser's hello passes with a made-up name, and never without one", place+1))
	j.cannot("whether a certain name or much data is minded: that is compared with a connection without a name")
	return true
}

// anyName looks at hellos with a made-up name, where those without one pass.
func (j *judge) anyName(place int) {
	ok, _, _, _ := j.hellosOf(place, Browser, 0)
	with, cut, _, how := j.hellosOf(place, Browser, MadeUp)
	if ok == 0 || with > 0 || cut == 0 {
		return
	}
	goes, goCut, _, _ := j.hellosOf(place, Plainly, MadeUp)
	evidence := []string{fmt.Sprintf("at address %d the browser's hello passes without a name, and never with a made-up one", place+1)}
	switch {
	case goes > 0:
		if f := (Finding{Kind: TLSFingerprint, Confidence: High, Place: -1, Name: MadeUp, Hello: Browser, How: string(how)}); !j.same(f) {
			j.find(f, append(evidence, "a Go program's passes with one")...)
		}
	case goCut > 0:
		j.find(Finding{Kind: TLSName, Confidence: High, Place: place, Port: j.door(place), Name: MadeUp, How: string(how)}, append(evidence,
			"neither does a Go program's")...)
	default:
		j.cannot("whether it is any name, or how the browser's hello looks with one, that is minded at address %d: then nothing passed any more", place+1)
	}
}

// lastHello is the outcome of a place's last hello before names were said.
func (j *judge) lastHello(place int) (o Outcome) {
	for _, h := range j.Hellos {
		if h.Place == place && h.Name == 0 && h.At < j.firstNamed() {
			o = h.Outcome
		}
	}
	return o
}

// The words for Finding.Scope.
const (
	connection = "connection"
	serverPort = "server-port"
)

// residual fills in what came of harmless connections after a cut.
func (j *judge) residual(f *Finding, protocol string) (evidence []string) {
	for _, r := range j.Residuals {
		if r.Protocol != protocol || r.Name != f.Name || r.Place != f.Place {
			continue
		}
		switch {
		case r.NewPort.cut():
			f.Scope = serverPort
		case r.SamePort.cut():
			f.Scope = connection
		case r.SamePort == OK:
			return []string{"right after it, harmless connections pass"}
		default:
			return []string{"right after it, harmless connections from other ports of this machine pass"}
		}
		if r.Still > r.Since {
			f.AtLeast = math.Floor(r.Still - r.Since)
		}
		if r.Gone > 0 {
			f.AtMost = math.Ceil(r.Gone - r.Since)
		}
		what := "harmless connections to the same port of that address"
		if f.Scope == connection {
			what += ", from the same port of this machine,"
		}
		return []string{what + " are cut, too, " + between(f.AtLeast, f.AtMost)}
	}
	return nil
}

// names looks at hellos and pages with a name.
func (j *judge) names() {
	for name := 1; name < len(j.Names); name++ {
		tested := false
		for place := range j.Places {
			if ok, _, _, _ := j.hellosOf(place, Browser, 0); ok == 0 {
				continue
			}
			if ok, cut, _, _ := j.hellosOf(place, Browser, MadeUp); ok == 0 && cut > 0 {
				tested = true // it is not about this one
				continue
			}
			bOK, bCut, _, how := j.hellosOf(place, Browser, name)
			sOK, sCut, _, sHow := j.hellosOf(place, Small, name)
			if bOK+bCut+sOK+sCut == 0 {
				continue
			}
			tested = true
			f := Finding{Kind: TLSName, Confidence: High, Place: place, Port: j.door(place), Name: name, How: string(how)}
			switch {
			case bCut > 0:
				e := append([]string{fmt.Sprintf("with the name %d of %d hellos were cut, without one none", bCut, bOK+bCut)}, j.residual(&f, "tls")...)
				j.find(f, e...)
			case sCut > 0:
				f.Hello, f.How = Small, string(sHow)
				e := append([]string{"a small hello with the name was cut; one in two segments, as browsers send it, passes"},
					j.residual(&f, "tls")...)
				j.find(f, e...)
			}
		}
		if !tested {
			j.cannot("whether TLS with name %d is minded: nothing without a name got through before it", name)
		}
		j.namedBulk(name)
	}
	if len(j.Names) == 1 {
		j.cannot("whether names are minded, or answers about them forged: no name is in the access key and none was given (--name)")
	}
}
