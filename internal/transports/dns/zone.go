package dns

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A zone is what strangers are told: one of the small zones that a program answers for which does nothing else.
//
//	zone      SOA, NS, and A and AAAA if it has addresses
//	ns.zone   the same addresses, if the name server is called so
//	*         NXDOMAIN
//
// Questions for all types get RFC 8482's answer, other zones and transfers REFUSED, and names that exist without the type
// the SOA.
type zone struct {
	name   string // without the last dot
	server string // likewise
	addrs  []netip.Addr
	serial uint32
}

// What small zones have.
const (
	zoneTTL     = 3600
	negativeTTL = 300
)

func newZone(name, server string, addrs []netip.Addr, now time.Time) *zone {
	z := &zone{name: strings.ToLower(name), server: strings.ToLower(strings.TrimSuffix(server, ".")), addrs: addrs}
	if z.server == "" {
		z.server = "ns." + z.name
	}
	year, month, day := now.UTC().Date() // as people write serials who edit zones by hand
	z.serial = uint32(((year*100+int(month))*100+day)*100 + 1)
	return z
}

func (z *zone) has(name string) bool {
	name = strings.TrimSuffix(name, ".")
	at := len(name) - len(z.name)
	return at >= 0 && strings.EqualFold(name[at:], z.name) && (at == 0 || name[at-1] == '.')
}

// answer answers a question whose name is the zone's or below it.
func (z *zone) answer(m *dns.Msg) {
	q := m.Question[0]
	m.Authoritative = true
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	apex := name == z.name
	if !apex && name != z.server {
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{z.soa(z.name+".", negativeTTL)}
		return
	}
	head := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: q.Name, Rrtype: t, Class: dns.ClassINET, Ttl: zoneTTL}
	}
	switch {
	case q.Qtype == dns.TypeANY:
		m.Answer = []dns.RR{&dns.HINFO{Hdr: head(dns.TypeHINFO), Cpu: "RFC8482"}}
	case q.Qtype == dns.TypeSOA && apex:
		m.Answer = []dns.RR{z.soa(q.Name, zoneTTL)}
	case q.Qtype == dns.TypeNS && apex:
		m.Answer = []dns.RR{&dns.NS{Hdr: head(dns.TypeNS), Ns: z.server + "."}}
		if z.has(z.server) {
			m.Extra = append(m.Extra, z.addresses(z.server+".", dns.TypeA)...)
			m.Extra = append(m.Extra, z.addresses(z.server+".", dns.TypeAAAA)...)
		}
	case q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA:
		m.Answer = z.addresses(q.Name, q.Qtype)
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{z.soa(z.name+".", negativeTTL)}
	}
}

func (z *zone) addresses(name string, t uint16) (all []dns.RR) {
	head := dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: zoneTTL}
	for _, a := range z.addrs {
		switch a = a.Unmap(); {
		case t == dns.TypeA && a.Is4():
			all = append(all, &dns.A{Hdr: head, A: a.AsSlice()})
		case t == dns.TypeAAAA && a.Is6():
			all = append(all, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	return all
}

func (z *zone) soa(owner string, ttl uint32) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  z.server + ".", Mbox: "hostmaster." + z.name + ".",
		Serial: z.serial, Refresh: 7200, Retry: 3600, Expire: 1209600, Minttl: negativeTTL,
	}
}

// limiter is response rate limiting for strangers, as name servers have it against being used to flood others with
// answers: above a rate per network answers over UDP are left out, and every second one is but an invitation to come by
// TCP. Its memory is what it is.
type limiter struct {
	seed maphash.Seed

	mu      sync.Mutex
	begin   time.Time
	buckets [4096]bucket
}

type bucket struct {
	left float32
	at   float32 // seconds since begin
	slip bool
}

const (
	limitRate  = 20 // a second
	limitBurst = 40
)

// A verdict is what a stranger over UDP gets.
type verdict int

const (
	answered verdict = iota
	slipped          // TC
	dropped
)

func newLimiter() *limiter {
	l := &limiter{seed: maphash.MakeSeed(), begin: time.Now()}
	for i := range l.buckets {
		l.buckets[i].left = limitBurst
	}
	return l
}

func (l *limiter) take(from netip.Addr, now time.Time) verdict {
	bits := 56
	if from = from.Unmap(); from.Is4() {
		bits = 24
	}
	network, err := from.Prefix(bits)
	if err != nil {
		return dropped
	}
	i := maphash.Comparable(l.seed, network) % uint64(len(l.buckets))
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.buckets[i]
	at := float32(now.Sub(l.begin).Seconds())
	b.left = min(limitBurst, b.left+(at-b.at)*limitRate)
	if b.at = at; b.left >= 1 {
		b.left--
		return answered
	}
	if b.slip = !b.slip; b.slip {
		return slipped
	}
	return dropped
}
