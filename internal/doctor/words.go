package doctor

import (
	"fmt"
	"math"
	"time"
)

// words says what a finding means, and what to do about it, to a person who knows nothing of protocols. Places and names are
// called by their numbers.
func words(f *Finding) (text, next string) {
	at, name := fmt.Sprintf("address %d", f.Place+1), fmt.Sprintf("name %d", f.Name)
	if f.Name == MadeUp {
		name = "any name"
	}
	switch f.Kind {
	case NoNetwork:
		if f.How != "" {
			return "This machine is connected to something, but nothing comes back from anywhere.", "check the router, or the provider's account"
		}
		return "This machine is not connected to any network.", "connect it: cable, Wi-Fi, or mobile data"
	case CaptivePortal:
		return "A login page stands before this network: it answers in everybody's stead.", "open any page in a browser and log in, then try again"
	case WrongClock:
		return fmt.Sprintf("This machine's clock is %v off.", time.Duration(math.Abs(f.Skew))*time.Second), "set it"
	case Unreachable:
		if f.How == "lookup" {
			return "The gateway's name is not found from here.", "ask for an access key with an address in it"
		}
		return "Nothing of the gateway answers: its addresses are blocked here, or it is down.", "from another network 'godwit test' tells which; " +
			"more addresses in the access key help"
	case AddressBlocked:
		if f.How == "tcp" {
			return fmt.Sprintf("TCP to the gateway's %s is swallowed here; UDP passes.", at), "another address, or quic"
		}
		return fmt.Sprintf("The gateway's %s is swallowed here, all of it; another one answers.", at), "the other address works; a new one may replace it"
	case PortBlocked:
		return fmt.Sprintf("Port %d of the gateway's %s is swallowed here; others of it answer.", f.Port, at), "another port works there"
	case PortRefused:
		return fmt.Sprintf("Port %d of the gateway's %s is refused: nothing listens there, or a firewall says so.", f.Port, at),
			"is the gateway running? 'godwit test' from another network tells"
	case SomebodyElse:
		return "Somebody else answers at the gateway's address: nothing of the access key was shown to them.",
			"is the access key still good? If it is, this network sits in between"
	case TLSCut:
		return fmt.Sprintf("Encrypted connections (TLS) to the gateway's %s are %s: all of them, or all after the first.", at, cutWord(f.How)),
			"another address of the gateway's, or another transport than https"
	case TLSNameless:
		return "Encrypted connections that say no name are " + cutWord(f.How) + "; with a name they pass.", "an access key with a name works"
	case TLSFingerprint:
		if f.Hello == Browser {
			text = "Connections that look like the Chrome that Godwit imitates"
			if f.Name == MadeUp {
				text += " and say a name"
			}
			return text + " are " + cutWord(f.How) + "; other programs' pass.",
				"update Godwit, whose imitation may be stale; another transport than https"
		}
		return "Connections that look like a " + map[string]string{Plainly: "Go program's", Small: "simple program's"}[f.Hello] + " are " +
			cutWord(f.How) + "; those that look like Chrome, as Godwit's do, pass.", "nothing: Godwit's pass"
	case TLSName:
		text = fmt.Sprintf("Encrypted connections that say %s are %s", name, cutWord(f.How))
		if f.Bytes > 0 {
			text += " after a few kilobytes"
		}
		if f.Hello == Small {
			return text + ", but not in the form that browsers and Godwit say it in." + lasting(f), "nothing: Godwit's pass"
		}
		return text + "; without it they pass." + lasting(f), "an access key with another name, or with none, works"
	case HTTPCut:
		return fmt.Sprintf("Connections without encryption (HTTP) to the gateway's %s are %s, whatever they say.", at, cutWord(f.How)),
			"https is not touched by this"
	case HTTPName:
		how := cutWord(f.How)
		if f.How == "page" {
			how = "answered by somebody else, with a page of their own"
		}
		return fmt.Sprintf("Requests without encryption (HTTP) for %s are %s.", name, how) + lasting(f), "https is not touched by this"
	case Freeze:
		if f.UDP {
			return fmt.Sprintf("UDP to the gateway stands still after about %d packets.", f.Packets), "quic will be slow here: new connections again and again"
		}
		return fmt.Sprintf("Connections to the gateway stand still after about %d KB; new ones start again.", (f.Bytes+500)/1000),
			"large transfers will be slow: each link carries so much only"
	case Throttled:
		return fmt.Sprintf("Connections that say %s are slowed down to about %s; without it they are not.", name, rate(f.Rate)),
			"an access key with another name, or with none, is faster"
	case Slow:
		return fmt.Sprintf("The way to the gateway carries about %s: a slow line, or somebody slows it down.", rate(f.Rate)),
			"compare with something else from here that should be fast"
	case Lossy:
		return "This network loses a lot, of everything.", "a weak signal? Try by cable, or nearer to the access point"
	case QUICBlocked:
		return fmt.Sprintf("UDP to port %d of the gateway, and so QUIC, is swallowed: here, or by a firewall of the gateway's own.", f.Port),
			"https works without it"
	case QUICName:
		text := fmt.Sprintf("QUIC connections that say %s are swallowed; without it they pass.", name)
		if f.Hello == Small {
			return text + " In the form that browsers say it in it passes.", "nothing: Godwit's pass"
		}
		return text + lasting(f), "https works without it; or an access key with another name, or none"
	case QUICVersion:
		if f.Version == 0 {
			return "QUIC is swallowed, and other UDP to the same port is not.", "https works without it"
		}
		return fmt.Sprintf("QUIC of version %d is swallowed; the other version passes.", f.Version), "https works without it"
	case UDPLossy:
		return fmt.Sprintf("UDP to the gateway loses about %.0f %% here; TCP does not.", 100*f.Share), "https is faster here than quic"
	case UDPPoliced:
		return fmt.Sprintf("UDP that goes on for some seconds is held down to about %s.", rate(f.Rate)), "https is faster here than quic for uploads"
	case UDPSlow:
		return fmt.Sprintf("UDP carries about %s towards the gateway: a slow line, or somebody slows it down.", rate(f.Rate)), ""
	case DNSForged:
		who := "one machine forges"
		if f.Injectors > 1 {
			who = fmt.Sprintf("%d machines forge", f.Injectors)
		}
		text := fmt.Sprintf("Answers to where %s is are forged: %s them.", name, who)
		switch f.Path {
		case "on-path":
			text += " The true answer comes later."
		case "in-path":
			text += " The true answer does not come."
		}
		return text, "with the tunnel up, names are asked for at the gateway; without it, believe no answer of this network's"
	case DNSSwallowed:
		return fmt.Sprintf("Questions for where %s is are swallowed.", name), "with the tunnel up, names are asked for at the gateway"
	case DNSIntercepted:
		return "Whoever is asked for names, somebody on the way answers.", "with the tunnel up, names are asked for at the gateway"
	case BurstsPunished:
		return fmt.Sprintf("After %d connections at nearly the same time, new ones are swallowed %s.", f.After, between(f.AtLeast, f.AtMost)),
			"few connections, with a pause between them: Godwit keeps to that"
	}
	return string(f.Kind), ""
}

func cutWord(how string) string {
	switch Outcome(how) {
	case Reset:
		return "cut by a reset"
	case Silent:
		return "swallowed"
	}
	return "ended"
}

// lasting says what else is blocked after a cut.
func lasting(f *Finding) string {
	switch f.Scope {
	case serverPort:
		return " After it, nothing gets to that port of the gateway's address " + between(f.AtLeast, f.AtMost) + "."
	case connection:
		return " After it, that port of this machine's gets nothing there " + between(f.AtLeast, f.AtMost) + "."
	}
	return ""
}

// between says how long something lasts.
func between(least, most float64) string {
	switch {
	case most > 0 && least > 0:
		return fmt.Sprintf("for %.0f to %.0f s", least, most)
	case most > 0:
		return fmt.Sprintf("for %.0f s at most", most)
	case least > 0:
		return fmt.Sprintf("for %.0f s at least", least)
	}
	return "for a while"
}

func helloWord(kind string) string {
	return map[string]string{Browser: "the browser's hello", Plainly: "a Go program's hello", Small: "a small hello"}[kind]
}

func kilobytes(least, most int) string {
	if (least+500)/1000 == (most+500)/1000 {
		return fmt.Sprintf("%d KB", (least+500)/1000)
	}
	return fmt.Sprintf("%d to %d KB", (least+500)/1000, (most+500)/1000)
}

func rate(r float64) string {
	if r >= 999_500 {
		return fmt.Sprintf("%.3g Mbit/s", r/1e6)
	}
	return fmt.Sprintf("%.3g kbit/s", r/1e3)
}
