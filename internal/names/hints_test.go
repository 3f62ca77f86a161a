package names

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

// Whatever comes as an answer of type HTTPS has no address in it afterwards.
func FuzzHints(f *testing.F) {
	q, _ := dnsmessage.NewQuestion("a.example", dnsmessage.TypeHTTPS)
	for _, text := range []string{`a.example. 300 IN HTTPS 1 . alpn="h2" mandatory="ipv4hint" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"`,
		`a.example. 300 IN HTTPS 0 b.example.`, `a.example. 300 IN CNAME b.example.`} {
		m := new(dns.Msg).SetQuestion("a.example.", dns.TypeHTTPS)
		m.Response = true
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = []dns.RR{rr}
		b, _ := m.Pack()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := dnsmessage.ParseAnswer(q, b)
		if err != nil || a.Code != dnsmessage.Success {
			return
		}
		var m dns.Msg
		if err := m.Unpack(withoutHints(q, a).Bytes()); err != nil {
			t.Fatal(err)
		}
		for _, rr := range m.Answer {
			if h, ok := rr.(*dns.HTTPS); ok {
				if text := h.String(); strings.Contains(text, " ipv4hint=") || strings.Contains(text, " ipv6hint=") {
					t.Fatal(text)
				}
			}
		}
		if len(m.Extra) > 0 {
			t.Fatal(m.Extra)
		}
	})
}
