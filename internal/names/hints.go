package names

import (
	"slices"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

// withoutHints takes the addresses out of an answer of type HTTPS or SVCB (RFC 9460, section 7.3), so that whoever reads
// it asks for A and AAAA. One that cannot be read becomes one that says nothing: all can do without such answers.
func withoutHints(q dnsmessage.Question, a *dnsmessage.Answer) *dnsmessage.Answer {
	if a.Code != dnsmessage.Success {
		return a
	}
	var m dns.Msg
	if m.Unpack(a.Bytes()) != nil {
		return q.Made(dnsmessage.Success)
	}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.HTTPS:
			rr.Value = withoutAddrs(rr.Value)
		case *dns.SVCB:
			rr.Value = withoutAddrs(rr.Value)
		}
	}
	m.Extra, m.Compress = nil, true // which are addresses, too
	wire, err := m.Pack()
	if err != nil || m.Unpack(wire) != nil { // it passes on what it would not read again
		return q.Made(dnsmessage.Success)
	}
	b, err := dnsmessage.ParseAnswer(q, wire)
	if err != nil {
		return q.Made(dnsmessage.Success)
	}
	return b
}

func withoutAddrs(values []dns.SVCBKeyValue) []dns.SVCBKeyValue {
	hint := func(k dns.SVCBKey) bool { return k == dns.SVCB_IPV4HINT || k == dns.SVCB_IPV6HINT }
	return slices.DeleteFunc(values, func(v dns.SVCBKeyValue) bool {
		if m, ok := v.(*dns.SVCBMandatory); ok {
			m.Code = slices.DeleteFunc(m.Code, hint)
			return len(m.Code) == 0
		}
		return hint(v.Key())
	})
}
