package doctor

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kind is what a network does, or what is wrong.
type Kind string

// The kinds. Those that end in "?" in their comment name what is seen, and not who does it: it can have other causes.
const (
	NoNetwork      Kind = "no-network"
	CaptivePortal  Kind = "captive-portal"
	WrongClock     Kind = "wrong-clock"
	Unreachable    Kind = "gateway-unreachable" // ?
	AddressBlocked Kind = "address-blocked"
	PortBlocked    Kind = "port-blocked"
	PortRefused    Kind = "port-refused"    // ?
	SomebodyElse   Kind = "somebody-else"   // ?
	TLSCut         Kind = "tls-cut"         // ? TLS to an address: all of it, or all after something
	TLSFingerprint Kind = "tls-fingerprint" // one kind of hello, and not another
	TLSNameless    Kind = "tls-nameless"    // a hello without a name
	TLSName        Kind = "tls-name"        // a name in the hello
	HTTPCut        Kind = "http-cut"        // HTTP to an address, whatever it says
	HTTPName       Kind = "http-name"       // a name in Host
	Freeze         Kind = "freeze"          // nothing comes any more after so much
	Throttled      Kind = "throttled"       // by a name
	Slow           Kind = "slow"            // ?
	Lossy          Kind = "lossy"           // ?
	QUICBlocked    Kind = "quic-blocked"    // UDP to QUIC's port
	QUICName       Kind = "quic-name"       // a name in the hello
	QUICVersion    Kind = "quic-version"    // QUIC of a version
	UDPLossy       Kind = "udp-lossy"       // UDP loses, TCP does not
	UDPPoliced     Kind = "udp-policed"     // UDP is held to a rate after some time
	UDPSlow        Kind = "udp-slow"        // ?
	DNSForged      Kind = "dns-forged"      // answers to a name are forged
	DNSSwallowed   Kind = "dns-swallowed"   // questions for a name get no answer
	DNSIntercepted Kind = "dns-intercepted" // whoever is asked, somebody else answers
	BurstsPunished Kind = "bursts-punished" // several connections at once
)

// Causes says whether a kind names what the network does, rather than what is seen and may have another cause.
func (k Kind) Causes() bool {
	return !slices.Contains([]Kind{Unreachable, PortRefused, SomebodyElse, TLSCut, Slow, Lossy, UDPSlow}, k)
}

// Confidence is how sure a finding is.
type Confidence string

// The confidences.
const (
	High   Confidence = "high"   // it was seen, and what else it could be was excluded
	Medium Confidence = "medium" // it was seen, and another cause is less likely
)

// Finding is one thing that is wrong. Fields that a kind does not need are zero; places and names are numbers, as in
// Observations.
type Finding struct {
	Kind       Kind       `json:"kind"`
	Confidence Confidence `json:"confidence"`
	Text       string     `json:"text"`
	Evidence   []string   `json:"evidence"`
	Next       string     `json:"next"`

	Place int    `json:"place"` // -1: all of them
	Port  uint16 `json:"port,omitempty"`
	Name  int    `json:"name,omitempty"`
	// Hello is which kind of hello it is about; empty is every one.
	Hello string `json:"hello,omitempty"`
	// How: "reset", "closed", "silent", "page", "nxdomain".
	How string `json:"how,omitempty"`
	// Scope is what else is blocked after it: "connection" (the 4-tuple), "server-port" (3-tuple), or nothing.
	Scope string `json:"scope,omitempty"`
	// AtLeast and AtMost bound for how long, in seconds; zero is unknown.
	AtLeast float64 `json:"at_least_seconds,omitempty"`
	AtMost  float64 `json:"at_most_seconds,omitempty"`
	// Bytes and Packets are after how much; Rate is in bits a second; Share is of packets lost.
	Bytes   int     `json:"bytes,omitempty"`
	Packets int     `json:"packets,omitempty"`
	Rate    float64 `json:"rate,omitempty"`
	Share   float64 `json:"share,omitempty"`
	// Injectors is how many forge; Path is "on-path" if the true answer comes too, "in-path" if not, or not known.
	Injectors int     `json:"injectors,omitempty"`
	Path      string  `json:"path,omitempty"`
	UDP       bool    `json:"udp,omitempty"`
	Skew      float64 `json:"skew_seconds,omitempty"`
	After     int     `json:"after,omitempty"`   // so many connections
	Version   int     `json:"version,omitempty"` // of QUIC; zero is every one
}

// judge collects what Judge finds.
type judge struct {
	*Observations
	found  []Finding
	untold []string
}

// Judge names what observations show. It is a function of them alone.
func Judge(o *Observations) (findings []Finding, untold []string) {
	j := &judge{Observations: o}
	j.clock()
	if j.online() && !j.somebodyElse() {
		j.reach()
		j.tls()
		j.http()
		j.bulk()
		j.names()
		j.udp()
		j.quic()
		j.burst()
	}
	j.dns()
	if j.found == nil {
		j.found = []Finding{}
	}
	if j.untold == nil {
		j.untold = []string{}
	}
	return j.found, j.untold
}

func (j *judge) find(f Finding, evidence ...string) {
	f.Evidence = evidence
	f.Text, f.Next = words(&f)
	j.found = append(j.found, f)
}

func (j *judge) cannot(format string, args ...any) {
	j.untold = append(j.untold, fmt.Sprintf(format, args...))
}

// was reports whether a kind was found.
func (j *judge) was(k Kind) bool {
	return slices.ContainsFunc(j.found, func(f Finding) bool { return f.Kind == k })
}

// same reports whether another place has shown the same.
func (j *judge) same(f Finding) bool {
	return slices.ContainsFunc(j.found, func(o Finding) bool {
		return o.Kind == f.Kind && o.Hello == f.Hello && o.Name == f.Name && o.UDP == f.UDP
	})
}

// skewed is from how many seconds on a clock is wrong.
const skewed = 300

func (j *judge) clock() {
	var own, others []float64
	for _, c := range j.Clocks {
		if c.Gateway {
			own = append(own, c.Skew)
		} else {
			others = append(others, c.Skew)
		}
	}
	f := Finding{Kind: WrongClock, Confidence: High, Place: -1}
	said := own
	if len(own) == 0 {
		said, f.Confidence = others, Medium
	}
	if len(said) == 0 {
		j.cannot("whether the clock is right: nobody said what time it is")
		return
	}
	slices.Sort(said)
	if f.Skew = said[len(said)/2]; math.Abs(f.Skew) >= skewed {
		j.find(f, fmt.Sprintf("%d answers of the gateway say another time", len(said)))
	}
}

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

// burst looks at several connections at once.
func (j *judge) burst() {
	for _, b := range j.Bursts {
		passed, cut := 0, 0
		for _, o := range b.Outcomes {
			if o == OK {
				passed++
			} else if o.cut() {
				cut++
			}
		}
		if cut == 0 || !b.Later.cut() {
			if cut > 0 {
				j.cannot("why %d of %d connections at once were cut: a lone one after them passed", cut, len(b.Outcomes))
			}
			continue
		}
		f := Finding{Kind: BurstsPunished, Confidence: High, Place: b.Place, Port: j.door(b.Place), Name: b.Name, After: passed, How: string(b.Later)}
		if b.Still > b.Since {
			f.AtLeast = math.Floor(b.Still - b.Since)
		}
		if b.Gone > 0 {
			f.AtMost = math.Ceil(b.Gone - b.Since)
		}
		evidence := []string{fmt.Sprintf("of %d connections at nearly the same time %d passed, and a lone one after them did not", len(b.Outcomes), passed),
			"cut " + between(f.AtLeast, f.AtMost)}
		if b.Neutral == OK {
			evidence = append(evidence, "one without the name passes meanwhile")
		} else {
			f.Scope = serverPort
		}
		j.find(f, evidence...)
	}
}
