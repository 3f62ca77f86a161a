package doctor

import (
	"fmt"
	"math"
	"slices"
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
