package dnsmessage

import "strings"

// Special answers questions about names that no resolver is to be asked about, whoever it is.
//
//	localhost, and below             the asker's own machine (RFC 6761, section 6.3)
//	local, onion, invalid, alt       no such name (RFC 6762, RFC 7686, RFC 6761, RFC 9476)
//	resolver.arpa                    nothing: who resolves is no resolver's to say (RFC 9462, section 6.4)
func Special(q Question) *Answer {
	name := q.Name()
	switch top := name[strings.LastIndexByte(name, '.')+1:]; {
	case top == "localhost" && q.Type == TypeA:
		return q.Made(Success, Record{TypeA, specialTTL, []byte{127, 0, 0, 1}})
	case top == "localhost" && q.Type == TypeAAAA:
		return q.Made(Success, Record{TypeAAAA, specialTTL, []byte{15: 1}})
	case top == "localhost", Below(name, "resolver.arpa"):
		return q.Made(Success)
	case top == "local", top == "onion", top == "invalid", top == "alt":
		return q.Made(NXDomain)
	}
	return nil
}

const specialTTL = 10800

// Inside reports whether name can only mean something inside some network (RFC 6761, RFC 6762, RFC 8375, and ICANN's
// "internal"). It is all that can be checked of a name that someone else looks up.
func Inside(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch last {
	case name: // a single label: whatever the search list makes of it
		return true
	case "localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private":
		return true
	}
	return Below(name, "home.arpa")
}

// InsideReverse reports whether name is where the name of an address would be that many networks have (RFC 6303).
func InsideReverse(name string) bool {
	for _, zone := range insideZones {
		if Below(name, zone) {
			return true
		}
	}
	second, ok := strings.CutSuffix(name, ".172.in-addr.arpa")
	second = second[strings.LastIndexByte(second, '.')+1:]
	return ok && len(second) == 2 && second >= "16" && second <= "31"
}

var insideZones = []string{"10.in-addr.arpa", "168.192.in-addr.arpa", "254.169.in-addr.arpa", "127.in-addr.arpa",
	"0.in-addr.arpa", "64.100.in-addr.arpa", "d.f.ip6.arpa", "c.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa",
	"b.e.f.ip6.arpa"}

// Below reports whether name is a domain or below it.
func Below(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}
