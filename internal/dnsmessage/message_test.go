package dnsmessage

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return m
}

func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// question is a message that asks, and what is read of it.
func question(t testing.TB, name string, typ uint16, change ...func(*dns.Msg)) (Query, []byte) {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, typ)
	for _, c := range change {
		c(m)
	}
	b := pack(t, m)
	q, reply, ok := ParseQuery(b)
	if !ok {
		t.Fatalf("%s: refused with %x", name, reply)
	}
	return q, b
}

func withEDNS(size uint16, do bool, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(size, do)
		m.IsEdns0().Option = options
	}
}

func TestQuery(t *testing.T) {
	subnet := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}
	q, asked := question(t, "WWW.Example.COM.", dns.TypeMX, withEDNS(4096, true, subnet, &dns.EDNS0_COOKIE{Code: 10, Cookie: "0102030405060708"}))
	if q.Name() != "www.example.com" || q.Type != dns.TypeMX || !q.DO || q.CD {
		t.Errorf("%+v", q)
	}
	if !bytes.Contains(asked, []byte{192, 0, 2}) {
		t.Error("the test asks without a subnet")
	}
	// What is asked of a resolver has none of the asker's options.
	m := unpack(t, q.Append(nil, 77))
	if m.Id != 77 || !m.RecursionDesired || m.Question[0].Name != "www.example.com." || m.Question[0].Qtype != dns.TypeMX {
		t.Errorf("asked %v", m)
	}
	if o := m.IsEdns0(); o == nil || len(o.Option) != 0 || !o.Do() || o.UDPSize() != safeUDP {
		t.Errorf("asked with %v", o)
	}
	for name, want := range map[string]string{".": "", `a\.b.example.`: `a\046b.example`, `\000\255.example.`: `\000\255.example`} {
		if q, _ := question(t, name, dns.TypeA); q.Name() != want {
			t.Errorf("%s is %q", name, q.Name())
		}
	}
	for name, ok := range map[string]bool{"example.com": true, "Example.com.": true, "": true, "a..b": false,
		strings.Repeat("a", 64): false, strings.Repeat("a.", 127): true, strings.Repeat("a.", 128): false} {
		q, got := NewQuestion(name, TypeA)
		if got != ok {
			t.Errorf("%q: %v", name, got)
		} else if ok {
			if want, _ := question(t, dns.Fqdn(name), TypeA); q != want.Question {
				t.Errorf("%q: %v", name, q)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(m *dns.Msg)
		want   int // -1 is no answer
	}{
		"a response":      {func(m *dns.Msg) { m.Response = true }, -1},
		"an update":       {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"no question":     {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		"two questions":   {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		"a whole zone":    {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeNotImplemented},
		"who are you":     {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"EDNS 1":          {func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		"EDNS twice":      {func(m *dns.Msg) { m.SetEdns0(1232, false).SetEdns0(1232, false) }, dns.RcodeFormatError},
		"EDNS in answers": {func(m *dns.Msg) { m.SetEdns0(1232, false); m.Answer, m.Extra = m.Extra, nil }, dns.RcodeFormatError},
	} {
		m := new(dns.Msg).SetQuestion("example.com.", dns.TypeTXT)
		tt.change(m)
		_, reply, ok := ParseQuery(pack(t, m))
		switch {
		case ok:
			t.Errorf("%s: is one", name)
		case tt.want == -1 && reply != nil:
			t.Errorf("%s: %x", name, reply)
		case tt.want >= 0:
			if a := unpack(t, reply); a.Rcode != tt.want || a.Id != m.Id || !a.Response {
				t.Errorf("%s: %v", name, a)
			}
		}
	}
	full := pack(t, new(dns.Msg).SetQuestion("example.com.", dns.TypeTXT))
	for n := range full {
		if _, reply, ok := ParseQuery(full[:n]); ok || (reply == nil) != (n < 12) {
			t.Errorf("%d bytes of %d: %v, %x", n, len(full), ok, reply)
		}
	}
	// A pointer in the question, to itself.
	if _, reply, ok := ParseQuery([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}); ok || reply == nil {
		t.Error("a pointer is a question")
	}
}

func TestAnswer(t *testing.T) {
	soa := rr(t, "example.com. 900 IN SOA ns.example.com. x.example.com. 1 2 3 4 60")
	tests := []struct {
		name     string
		records  []string
		soa      bool
		rcode    int
		ttl      time.Duration
		negative bool
	}{
		{"one", []string{"www.example.com. 300 IN A 192.0.2.1"}, false, 0, 300 * time.Second, false},
		{"the least", []string{"www.example.com. 300 IN CNAME x.example.net.", "x.example.net. 20 IN A 192.0.2.1"}, false, 0, 20 * time.Second, false},
		{"a month", []string{"www.example.com. 2592000 IN A 192.0.2.1"}, false, 0, 24 * time.Hour, false},
		{"no such name", nil, true, dns.RcodeNameError, time.Minute, true},
		{"no such type", nil, true, 0, time.Minute, true},
		{"no such name, of an alias", []string{"www.example.com. 20 IN CNAME x.example.net."}, true, dns.RcodeNameError, 20 * time.Second, true},
		{"nothing, for no stated time", nil, false, dns.RcodeNameError, 0, true},
		{"a failure", nil, false, dns.RcodeServerFailure, time.Second, false},
	}
	for _, tt := range tests {
		q, asked := question(t, "wWw.example.com.", dns.TypeA, withEDNS(1400, false))
		m := new(dns.Msg).SetReply(unpack(t, q.Append(nil, 9)))
		m.Rcode, m.Authoritative, m.Compress = tt.rcode, true, true
		for _, r := range tt.records {
			m.Answer = append(m.Answer, rr(t, r))
		}
		if tt.soa {
			m.Ns = append(m.Ns, soa)
		}
		m.Extra = append(m.Extra, rr(t, "x.example.net. 5 IN AAAA 2001:db8::1"))
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}}
		a, err := ParseAnswer(q.Question, pack(t, m))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if a.TTL != tt.ttl || a.Negative() != tt.negative || int(a.Code) != tt.rcode {
			t.Errorf("%s: kept for %v, negative %v, code %d", tt.name, a.TTL, a.Negative(), a.Code)
		}
		got := unpack(t, q.Reply(a, 7*time.Second, 0))
		if id := unpack(t, asked).Id; got.Id != id || got.Question[0].Name != "wWw.example.com." || got.Authoritative || !got.RecursionAvailable || got.Rcode != tt.rcode {
			t.Errorf("%s: %v", tt.name, got)
		}
		if o := got.IsEdns0(); o == nil || len(o.Option) > 0 {
			t.Errorf("%s: answered with %v", tt.name, o)
		}
		for i, r := range got.Answer {
			if want := m.Answer[i].Header().Ttl - 7; r.Header().Ttl != want {
				t.Errorf("%s: %v, want a TTL of %d", tt.name, r, want)
			}
		}
		if len(got.Answer) != len(m.Answer) || len(got.Ns) != len(m.Ns) || len(got.Extra) != 2 {
			t.Errorf("%s: %v", tt.name, got)
		}
		if ttl := got.Extra[0].Header().Ttl; ttl != 0 {
			t.Errorf("%s: what was good for 5 s is good for %d s more after 7", tt.name, ttl)
		}
	}
}

func TestAddrs(t *testing.T) {
	q, _ := question(t, "a.example.", dns.TypeA)
	m := new(dns.Msg).SetReply(unpack(t, q.Append(nil, 1)))
	m.Answer = []dns.RR{rr(t, "a.example. 60 IN CNAME b.example."), rr(t, "b.example. 30 IN A 192.0.2.1"), rr(t, "b.example. 40 IN A 192.0.2.2")}
	m.Extra = []dns.RR{rr(t, "c.example. 30 IN A 192.0.2.3")}
	a, err := ParseAnswer(q.Question, pack(t, m))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	a.Addrs(func(addr netip.Addr, ttl time.Duration) { got += fmt.Sprint(addr, " ", ttl, ", ") })
	if got != "192.0.2.1 30s, 192.0.2.2 40s, " {
		t.Error(got)
	}
}

// An answer that is too long for UDP says so, in no more bytes than allowed.
func TestTruncation(t *testing.T) {
	for _, tt := range []struct {
		edns       uint16
		most, size int
		cut        bool
	}{
		{0, 1232, 500, false}, {0, 1232, 600, true}, {1232, 1232, 600, false}, {4096, 1232, 1300, true}, {100, 1232, 500, false},
		{100, 1232, 600, true}, {4096, 0, 60_000, false}, {0, 0, 60_000, false},
	} {
		var change []func(*dns.Msg)
		if tt.edns > 0 {
			change = append(change, withEDNS(tt.edns, false))
		}
		q, _ := question(t, "big.example.", dns.TypeTXT, change...)
		m := new(dns.Msg).SetReply(unpack(t, q.Append(nil, 1)))
		m.Compress = true
		for left := tt.size - 40; left > 0; left -= 250 {
			m.Answer = append(m.Answer, rr(t, `big.example. 9 IN TXT "`+strings.Repeat("x", max(1, min(left, 250)-13))+`"`))
		}
		a, err := ParseAnswer(q.Question, pack(t, m))
		if err != nil {
			t.Fatal(err)
		}
		b := q.Reply(a, 0, tt.most)
		got := unpack(t, b)
		if got.Truncated != tt.cut || tt.most > 0 && len(b) > tt.most || (len(got.Answer) == 0) != tt.cut {
			t.Errorf("%+v: %d of %d bytes, cut %v", tt, len(b), a.Len(), got.Truncated)
		}
	}
}

func TestOthersAnswers(t *testing.T) {
	q, _ := question(t, "a.example.", dns.TypeA)
	good := new(dns.Msg).SetReply(unpack(t, q.Append(nil, 1)))
	good.Answer = []dns.RR{rr(t, "a.example. 60 IN A 192.0.2.1")}
	full := pack(t, good)
	for n := range full {
		if _, err := ParseAnswer(q.Question, full[:n]); err == nil {
			t.Errorf("%d bytes of %d are an answer", n, len(full))
		}
	}
	for name, change := range map[string]func(*dns.Msg){
		"a question":   func(m *dns.Msg) { m.Response = false },
		"another name": func(m *dns.Msg) { m.Question[0].Name = "b.example." },
		"another type": func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"no question":  func(m *dns.Msg) { m.Question = nil },
	} {
		m := good.Copy()
		change(m)
		if _, err := ParseAnswer(q.Question, pack(t, m)); err == nil {
			t.Errorf("%s is an answer", name)
		}
	}
}

func TestSpecial(t *testing.T) {
	for _, tt := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"localhost.", dns.TypeA, "127.0.0.1"}, {"a.LocalHost.", dns.TypeAAAA, "::1"}, {"localhost.", dns.TypeMX, "nothing"},
		{"printer.local.", dns.TypeA, "NXDOMAIN"}, {"x.onion.", dns.TypeA, "NXDOMAIN"}, {"x.invalid.", dns.TypeTXT, "NXDOMAIN"},
		{"_dns.resolver.arpa.", dns.TypeSVCB, "nothing"}, {"example.com.", dns.TypeA, ""}, {"notlocal.", dns.TypeA, ""},
		{"local.example.", dns.TypeA, ""}, {"xresolver.arpa.", dns.TypeA, ""},
	} {
		q, _ := question(t, tt.name, tt.typ)
		a := Special(q.Question)
		if a == nil {
			if tt.want != "" {
				t.Errorf("%s is not special", tt.name)
			}
			continue
		}
		m := unpack(t, q.Reply(a, 0, 512))
		got := "nothing"
		if m.Rcode != 0 {
			got = dns.RcodeToString[m.Rcode]
		}
		a.Addrs(func(addr netip.Addr, _ time.Duration) { got = addr.String() })
		if got != tt.want {
			t.Errorf("%s: %s, want %q", tt.name, got, tt.want)
		}
	}
	for name, want := range map[string]bool{"1.0.0.10.in-addr.arpa": true, "10.in-addr.arpa": true, "1.10.in-addr.arpa": true,
		"8.8.8.8.in-addr.arpa": false, "1.1.16.172.in-addr.arpa": true, "1.1.15.172.in-addr.arpa": false, "31.172.in-addr.arpa": true,
		"1.1.32.172.in-addr.arpa": false, "172.in-addr.arpa": false, "0.d.f.ip6.arpa": true, "8.b.d.0.1.0.0.2.ip6.arpa": false} {
		if InsideReverse(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// Whatever comes as a question is asked of a resolver as one that another parser reads alike, or is answered.
func FuzzQuery(f *testing.F) {
	f.Add(pack(f, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeHTTPS)))
	f.Add(pack(f, new(dns.Msg).SetQuestion(`\000a\.b.example.`, dns.TypeA).SetEdns0(4096, true)))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, reply, ok := ParseQuery(b)
		if !ok {
			if reply != nil {
				unpack(t, reply)
			}
			return
		}
		m := unpack(t, q.Append(nil, 1))
		if len(m.Question) != 1 || m.Question[0].Qtype != q.Type {
			t.Fatalf("asked %v", m)
		}
		if a := Special(q.Question); a != nil {
			unpack(t, q.Reply(a, 0, 512))
		}
		unpack(t, q.Fail(ServFail))
		if !q.Answers(q.Fail(ServFail)) {
			t.Fatal("no answer to itself")
		}
	})
}

// Whatever comes as an answer is passed on in no more bytes than allowed, and can be read again.
func FuzzAnswer(f *testing.F) {
	q, _ := question(f, "a.example.", dns.TypeA, withEDNS(1232, false))
	m := new(dns.Msg).SetReply(unpack(f, q.Append(nil, 1)))
	m.Compress = true
	m.Answer = []dns.RR{rr(f, "a.example. 60 IN CNAME b.example."), rr(f, "b.example. 30 IN A 192.0.2.1")}
	m.Ns = []dns.RR{rr(f, "example. 900 IN SOA ns.example. x.example. 1 2 3 4 60")}
	f.Add(pack(f, m), uint16(0))
	f.Add(pack(f, m.SetEdns0(1232, true)), uint16(512))
	f.Fuzz(func(t *testing.T, b []byte, most uint16) {
		a, err := ParseAnswer(q.Question, b)
		if err != nil {
			return
		}
		a.Addrs(func(netip.Addr, time.Duration) {})
		most = max(most, 512)
		out := q.Reply(a, time.Minute, int(most))
		if len(out) > int(most) {
			t.Fatalf("%d bytes where %d are allowed", len(out), most)
		}
		again, err := ParseAnswer(q.Question, q.Reply(a, 0, 0))
		if err != nil || again.Code != a.Code || again.TTL < a.TTL && a.TTL != failureTTL || len(again.ttls) != len(a.ttls) {
			t.Fatalf("%+v is %+v, %v", a, again, err)
		}
	})
}
