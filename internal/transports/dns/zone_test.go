package dns

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func exchange(t *testing.T, network, addr string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: 4096}
	a, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("%v: %v", m.Question, err)
	}
	return a
}

// To strangers it is a small name server like others.
func TestStrangers(t *testing.T) {
	g := newGateway(t)
	for _, tt := range []struct {
		name     string
		ask      string
		qtype    uint16
		class    uint16
		rcode    int
		answer   string // types
		soa, ref bool
	}{
		{name: "SOA", ask: testZone, qtype: dns.TypeSOA, answer: "SOA"},
		{name: "NS", ask: testZone, qtype: dns.TypeNS, answer: "NS"},
		{name: "A", ask: testZone, qtype: dns.TypeA, answer: "A"},
		{name: "AAAA", ask: "T.Example.NET", qtype: dns.TypeAAAA, answer: "AAAA"},
		{name: "A of the name server", ask: "ns." + testZone, qtype: dns.TypeA, answer: "A"},
		{name: "NS of the name server", ask: "ns." + testZone, qtype: dns.TypeNS, soa: true},
		{name: "no data", ask: testZone, qtype: dns.TypeTXT, soa: true},
		{name: "DS", ask: testZone, qtype: dns.TypeDS, soa: true},
		{name: "ANY", ask: testZone, qtype: dns.TypeANY, answer: "HINFO"},
		{name: "no name", ask: "www." + testZone, qtype: dns.TypeA, rcode: dns.RcodeNameError, soa: true},
		{name: "like ours", ask: strings.Repeat("a", 60) + "." + testZone, qtype: dns.TypeTXT, rcode: dns.RcodeNameError, soa: true},
		{name: "another zone", ask: "example.net", qtype: dns.TypeA, rcode: dns.RcodeRefused},
		{name: "nearly the zone", ask: "xt.example.net", qtype: dns.TypeA, rcode: dns.RcodeRefused},
		{name: "the root", ask: "", qtype: dns.TypeNS, rcode: dns.RcodeRefused},
		{name: "transfer", ask: testZone, qtype: dns.TypeAXFR, rcode: dns.RcodeRefused},
		{name: "version", ask: "version.bind", qtype: dns.TypeTXT, class: dns.ClassCHAOS, rcode: dns.RcodeRefused},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion(dns.Fqdn(tt.ask), tt.qtype)
			m.RecursionDesired = false
			if tt.class != 0 {
				m.Question[0].Qclass = tt.class
			}
			if network == "udp" {
				m.SetEdns0(1232, true)
			}
			a := exchange(t, network, g.addr, m)
			types := ""
			for _, rr := range a.Answer {
				types += dns.TypeToString[rr.Header().Rrtype]
				if rr.Header().Ttl != zoneTTL || !strings.EqualFold(rr.Header().Name, m.Question[0].Name) {
					t.Errorf("%s: %v", tt.name, rr)
				}
			}
			soa := len(a.Ns) == 1 && a.Ns[0].Header().Rrtype == dns.TypeSOA && a.Ns[0].Header().Name == testZone+"."
			if a.Rcode != tt.rcode || types != tt.answer || soa != tt.soa || a.RecursionAvailable || a.Truncated ||
				a.Authoritative != (tt.rcode != dns.RcodeRefused) || (a.IsEdns0() != nil) != (m.IsEdns0() != nil) {
				t.Errorf("%s, %s: %v", tt.name, network, a)
			}
		}
	}
}

func TestOddQueries(t *testing.T) {
	g := newGateway(t)
	m := new(dns.Msg).SetQuestion(testZone+".", dns.TypeSOA)
	m.SetEdns0(1232, false)
	m.IsEdns0().SetVersion(1)
	if a := exchange(t, "udp", g.addr, m); a.Rcode != dns.RcodeBadVers || len(a.Answer) > 0 {
		t.Errorf("EDNS 1: %v", a)
	}
	m = new(dns.Msg).SetNotify(testZone + ".")
	if a := exchange(t, "udp", g.addr, m); a.Rcode != dns.RcodeNotImplemented && a.Rcode != dns.RcodeRefused && a.Opcode != dns.OpcodeNotify {
		t.Errorf("NOTIFY: %v", a)
	}
	m = new(dns.Msg).SetUpdate(testZone + ".")
	if a := exchange(t, "udp", g.addr, m); a.Rcode != dns.RcodeNotImplemented {
		t.Errorf("UPDATE: %v", a)
	}
	c, err := net.Dial("udp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	c.Write(make([]byte, 3))
	exchange(t, "udp", g.addr, new(dns.Msg).SetQuestion(testZone+".", dns.TypeSOA)) // it is still there
}

// Who asks too often over UDP is answered less, and can come by TCP.
func TestRate(t *testing.T) {
	l := newLimiter()
	now := time.Now()
	from := netip.MustParseAddr("198.51.100.7")
	count := map[verdict]int{}
	for range 1000 {
		count[l.take(from, now)]++
	}
	if count[answered] != limitBurst || count[slipped] != count[dropped] {
		t.Errorf("of 1000 at once %v", count)
	}
	if v := l.take(netip.MustParseAddr("::ffff:198.51.100.9"), now); v == answered {
		t.Error("a neighbour may ask")
	}
	if v := l.take(netip.MustParseAddr("203.0.113.7"), now); v != answered {
		t.Error("another network may not ask")
	}
	if v := l.take(from, now.Add(time.Second)); v != answered {
		t.Error("nothing is forgiven")
	}
}
