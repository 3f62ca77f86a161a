package prober

import (
	"cmp"
	"fmt"
	"strings"
)

// Outcome is what a censor concludes.
type Outcome string

// The outcomes.
const (
	// Cleared: answers as the plain web server does.
	Cleared Outcome = "cleared"
	// Unmasked: gives away what it is.
	Unmasked Outcome = "unmasked"
	// Undecided: is another server than the control, but shows nothing of a proxy.
	Undecided Outcome = "undecided"
)

// Verdict is the outcome and its reason.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Kind is what was unmasked.
	Kind string `json:"kind,omitempty"`
	// Sure says that the server spoke the protocol or answered what only such a server answers. Otherwise its silence and
	// its ends give it away: research does that (B3, B4), and a censor who blocks on it bears the mistakes.
	Sure   bool   `json:"sure"`
	Reason string `json:"reason"`
	Source string `json:"source,omitempty"`
}

func (v Verdict) String() string {
	kind := ""
	if v.Kind != "" {
		kind = " as " + v.Kind
		if !v.Sure {
			kind += ", by its silence and its ends"
		}
	}
	source := ""
	if v.Source != "" {
		source = " (" + v.Source + ")"
	}
	return fmt.Sprintf("%s%s: %s%s", v.Outcome, kind, v.Reason, source)
}

// rule unmasks one kind of server. A test returns its reason, or "".
type rule struct {
	kind   string
	sure   bool
	source string
	test   func(*evidence) string
}

// rules are asked in this order, once it is known that something answers and not as the control does. The first to hold
// counts: what speaks for itself before what is silent.
var rules = []rule{
	{"proxy", true, "B3", func(e *evidence) string {
		for _, res := range e.all {
			if strings.HasPrefix(res.Suspect.What, proxies) && !strings.HasPrefix(res.Control.What, proxies) {
				return "by " + res.Probe + " it connects to whoever is asked for"
			}
		}
		return ""
	}},
	{"tor", true, "B7", func(e *evidence) string { return e.says(torCell) }},
	{"openvpn", true, "B4", func(e *evidence) string { return e.says(openvpnSpeaks) }},
	{"ike", true, "B6", func(e *evidence) string { return e.says(ikeSpeaks) }},
	{"wireguard", true, "B5", func(e *evidence) string { return e.says("WireGuard") }},
	{"borrowed handshake", true, "B11", func(e *evidence) string {
		if own, stranger := e.of(floodOwn), e.of(floodStranger); e.borrowed() {
			return fmt.Sprintf("the recorded hello meets another TLS stack than a stranger's: behind it the server %s, behind "+
				"the other it %s", own.Suspect.What, stranger.Suspect.What)
		}
		return ""
	}},
	{"borrowed handshake", true, "B11", (*evidence).ticketsMissing},
	{"shadowsocks", true, "B2", func(e *evidence) string {
		// Whoever knows the key only answers what was made with it.
		if r1, r2 := e.of(identical), e.of(byteChanged); r1 != nil && r2 != nil && e.mute() && r1.Suspect.Bytes > 0 &&
			r2.Suspect.Bytes == 0 {
			return "the user's first payload is answered once more, and not with byte 0 changed; nothing else is"
		}
		return ""
	}},
	{"openvpn", false, "B4", func(e *evidence) string {
		whole, short := e.of(openvpnReset), e.of(openvpnShort)
		random := e.of(randomBytes(openvpnRandom))
		if whole == nil || short == nil || random == nil || !e.mute() {
			return ""
		}
		if closed(whole.Suspect) && short.Suspect.End == Open && closed(random.Suspect) {
			return "it closes on a client's reset and waits for the last byte of one; it closes on random bytes"
		}
		return ""
	}},
	{"lampshade", false, "B3", func(e *evidence) string { return e.closesAt(256, 257) }},
	{"shadowsocks", false, "B2, B3", func(e *evidence) string { return e.closesAt(50, 51) }},
	{"obfuscated ssh", false, "B3", func(e *evidence) string { return e.closesAt(24, 25) }},
	{"obfs4", false, "B3, B7", func(e *evidence) string {
		if t := e.of(threshold); t != nil && e.mute() && t.Suspect.Closes >= 8192 && t.Suspect.Closes <= 16384 {
			return fmt.Sprintf("it takes %d bytes that it can make nothing of, and then closes (resets at %d)", t.Suspect.Closes,
				t.Suspect.Resets)
		}
		return ""
	}},
	{"shadowsocks", false, "B2", func(e *evidence) string {
		if !e.mute() {
			return ""
		}
		if r1, r2 := e.of(identical), e.of(byteChanged); r1 != nil && r2 != nil && r1.Suspect.End != r2.Suspect.End &&
			r1.Suspect.End != NotSent {
			return fmt.Sprintf("the user's first payload ends in %s, with byte 0 changed in %s", r1.Suspect.End, r2.Suspect.End)
		}
		// The ends of random payloads depend on their lengths, between 7 and 221.
		seen := map[End]string{}
		for _, res := range e.all {
			if strings.HasPrefix(res.Probe, "NR") && seen[res.Suspect.End] == "" {
				seen[res.Suspect.End] = res.Probe
			}
		}
		if short, long := seen[Open], cmp.Or(seen[FIN], seen[RST]); short != "" && long != "" {
			return fmt.Sprintf("random bytes end by their length: open for %s, closed for %s", short, long)
		}
		return ""
	}},
	{"probe-resistant server", false, "B3", func(e *evidence) string {
		// Over UDP silence is common.
		knocks, answered := 0, 0
		for _, res := range e.all {
			if res.kind.Knocks && res.Suspect.End != NotSent {
				knocks++
				if res.Control.Bytes > 0 {
					answered++
				}
			}
		}
		if e.network != "tcp" || !e.mute() || knocks < fewestKnocks || answered == 0 {
			return ""
		}
		return fmt.Sprintf("it answers none of %d well-formed requests of TLS, HTTP, Tor, SOCKS, SSH, STUN, DNS, S7, Modbus and "+
			"SMTP, where 94 %% of servers answer one", knocks)
	}},
}

// fewestKnocks is how many kinds of requests must be met with silence until that says something.
const fewestKnocks = 20

// evidence is what the rules look at.
type evidence struct {
	network string
	all     []*Result
	server  [][]byte // recorded
}

// of is the result of a probe; nil if it was not sent.
func (e *evidence) of(name string) *Result {
	for _, res := range e.all {
		if res.Probe == name && res.Suspect.End != NotSent {
			return res
		}
	}
	return nil
}

// borrowed says that the two floods end differently.
func (e *evidence) borrowed() bool {
	own, stranger := e.of(floodOwn), e.of(floodStranger)
	return own != nil && stranger != nil && own.Suspect.Closes != stranger.Suspect.Closes
}

// says finds an answer that only such a server gives, if the control does not give it.
func (e *evidence) says(what string) string {
	for _, res := range e.all {
		if res.Suspect.What == what && res.Control.What != what {
			return res.Probe + " is answered in kind"
		}
	}
	return ""
}

// mute says that no well-formed request of a known protocol has been answered, nor random bytes.
func (e *evidence) mute() bool {
	for _, res := range e.all {
		if (res.kind.Knocks || res.Family == "random") && res.Suspect.Bytes > 0 {
			return false
		}
	}
	return true
}

// closesAt says that a mute server closes at one number of bytes and resets at another: it reads so many and looks.
func (e *evidence) closesAt(closes, resets int) string {
	t := e.of(threshold)
	if t == nil || !e.mute() || t.Suspect.Closes != closes || t.Suspect.Resets != resets {
		return ""
	}
	return fmt.Sprintf("it closes at %d bytes that it can make nothing of, and resets at %d", closes, resets)
}

func closed(a Answer) bool { return a.End == FIN || a.End == RST }

// judge draws the conclusion.
func judge(r *Report) Verdict {
	e := &evidence{network: r.Network, all: r.Results, server: r.server}
	sent, gone := 0, 0
	var unlike []string
	for _, res := range r.Results {
		if res.Suspect.End == NotSent {
			continue
		}
		sent++
		if res.Suspect.End == Refused || res.Suspect.End == Unreachable {
			gone++
		}
		if !res.Same {
			unlike = append(unlike, res.Probe)
		}
	}
	if sent == gone {
		return Verdict{Outcome: Undecided, Reason: "nobody is there"}
	}
	for _, rule := range rules {
		if len(unlike) == 0 && rule.source != "B11" { // two servers that borrow are alike
			continue
		}
		if reason := rule.test(e); reason != "" {
			return Verdict{Unmasked, rule.kind, rule.sure, reason, rule.source}
		}
	}
	if len(unlike) == 0 {
		return Verdict{Outcome: Cleared, Sure: true,
			Reason: fmt.Sprintf("all %d probes are answered as the plain web server answers them", sent)}
	}
	const most = 5
	what := strings.Join(unlike[:min(len(unlike), most)], "; ")
	if len(unlike) > most {
		what += "; …"
	}
	return Verdict{Outcome: Undecided, Reason: fmt.Sprintf("%d of %d probes are answered otherwise than by the control (%s), "+
		"and none as by a proxy that is known", len(unlike), sent, what)}
}
