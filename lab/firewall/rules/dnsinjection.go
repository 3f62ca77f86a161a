package rules

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// DNSInjection answers questions for names in the server's stead, wherever they are sent and whether or not anyone is there.
//
// China: three injectors in parallel, told apart by their packets (Anonymous et al., Triplet Censors, FOCI 2020); both ways
// through the border; names match by parts, so that 41,000 of 311,000 are blocked by mistake; some 600 of 1,781 addresses
// make 99 % of the forged answers, AAAA are in one unused prefix; 99 % come within 364 ms and before the real one (Hoang et
// al., USENIX Security 2021). TCP is looked at too; what is done is not known: resets are ours. Iran: in path, the question
// does not arrive, the answer is 10.10.34.34 to .36 with the question's time to live (Tai et al., USENIX Security 2025).
// Russia, 2026-08: some names do not exist any more, over UDP (net4people/bbs 657).
type DNSInjection struct {
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	To     Nets  `toml:"to"`
	Ports  []int `toml:"ports"` // empty is 53
	// Injectors answer, all in parallel: "gfw-1", "gfw-2", "gfw-3", "iran", "nxdomain".
	Injectors []DNSInjector `toml:"injectors"`
	// A and AAAA are where forged addresses are taken from; empty is what is set aside for documentation. Iran's has its own.
	A    Nets `toml:"a"`
	AAAA Nets `toml:"aaaa"`
	// After is how much later than the question they answer; zero is as measured of the injector.
	After Lag `toml:"after"`
	// Drop swallows the question, of whatever type. Other types than A and AAAA are not answered.
	Drop     bool `toml:"drop"`
	Outbound bool `toml:"outbound"` // only questions from inside
	// TCP is done about questions over TCP; where it is not set they pass.
	TCP *Then `toml:"tcp"`
}

// DNSInjector is one of the machines that forge answers, by the fingerprints of their packets.
type DNSInjector struct {
	name    string
	df      bool
	noID    bool                                                             // of IP
	ttl     func(r *DNSInjector, f *firewall.Flow, p *firewall.Packet) uint8 // of IP
	aa      bool
	seconds [2]uint32 // of the record
	rcode   dnsmessage.RCode
	a       Nets // if it has its own

	min, mean, max time.Duration

	last uint8 // of counting
}

func counting(r *DNSInjector, _ *firewall.Flow, _ *firewall.Packet) uint8 {
	r.last = 40 + (r.last-40+1)%200
	return r.last
}
func random(_ *DNSInjector, f *firewall.Flow, _ *firewall.Packet) uint8 {
	return 40 + uint8(f.IntN(200))
}
func mirrored(_ *DNSInjector, _ *firewall.Flow, p *firewall.Packet) uint8 { return p.TTL }

var (
	documentation4 = nets("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
	documentation6 = nets("2001:db8::/32")
)

// dnsInjectors have Triplet Censors' fingerprints, but for the seconds of gfw-2 and gfw-3, which are not in what we read. Their
// delay is what a real answer from beyond the border would lose against; the most is GFWatch's 99 %.
var dnsInjectors = []DNSInjector{
	{name: "gfw-1", ttl: counting, aa: true, seconds: [2]uint32{60, 60}, min: ms, mean: 5 * ms, max: 364 * ms},
	{name: "gfw-2", df: true, ttl: random, seconds: [2]uint32{64, 255}, min: ms, mean: 5 * ms, max: 364 * ms},
	{name: "gfw-3", noID: true, ttl: mirrored, seconds: [2]uint32{64, 255}, min: ms, mean: 5 * ms, max: 364 * ms},
	{name: "iran", ttl: mirrored, seconds: [2]uint32{60, 60}, a: nets("10.10.34.34/32", "10.10.34.35/32", "10.10.34.36/32")},
	{name: "nxdomain", ttl: mirrored, rcode: dnsmessage.RCodeNameError},
}

// UnmarshalText finds an injector.
func (i *DNSInjector) UnmarshalText(b []byte) error {
	var names []string
	for _, known := range dnsInjectors {
		if known.name == string(b) {
			*i = known
			return nil
		}
		names = append(names, known.name)
	}
	return errors.New("is no injector of DNS; there are " + strings.Join(names, ", "))
}

func (r *DNSInjection) check(place firewall.Place) error {
	switch {
	case len(r.Names) == 0:
		return wrong("names", "is missing: it says which names are looked for")
	case r.Drop && place == firewall.OnPath:
		return wrong("drop", "a box that sees a copy cannot drop")
	case len(r.Injectors) == 0 && !r.Drop && r.TCP == nil:
		return wrong("injectors", "is missing, and drop and tcp too: it does nothing")
	}
	for _, n := range r.A {
		if !n.Addr().Is4() {
			return wrong("a", "%s is not of IPv4", n)
		}
	}
	for _, n := range r.AAAA {
		if n.Addr().Is4() {
			return wrong("aaaa", "%s is not of IPv6", n)
		}
	}
	err := ports("ports", r.Ports)
	if r.TCP != nil {
		err = errors.Join(err, inTable("tcp", r.TCP.check(place)))
	}
	return err
}

// Watch looks at every question.
func (r *DNSInjection) Watch(f *firewall.Flow) firewall.Watcher {
	if !r.isPort(f.Server.Port()) || r.Outbound && !f.FromInside || !r.To.Covers(f.Server.Addr()) {
		return nil
	}
	switch {
	case f.Proto == firewall.UDP && (len(r.Injectors) > 0 || r.Drop):
		return firewall.WatchFunc(r.datagram)
	case f.Proto == firewall.TCP && r.TCP != nil:
		return firewall.WatchFunc(r.stream)
	}
	return nil
}

func (r *DNSInjection) isPort(port uint16) bool {
	if len(r.Ports) == 0 {
		return port == 53
	}
	return portIn(r.Ports, port)
}

// question reads a question and what of the names it matches.
func (r *DNSInjection) question(b []byte) (h dnsmessage.Header, q dnsmessage.Question, pattern string) {
	var parser dnsmessage.Parser
	h, err := parser.Start(b)
	if err != nil || h.Response || h.OpCode != 0 {
		return h, q, ""
	}
	if q, err = parser.Question(); err != nil {
		return h, q, ""
	}
	name := q.Name.String()
	if r.Except.Match(name) != "" {
		return h, q, ""
	}
	return h, q, r.Names.Match(name)
}

func (r *DNSInjection) datagram(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if !p.FromClient {
		return
	}
	h, q, pattern := r.question(p.Payload)
	if pattern == "" {
		return
	}
	do.Fired("question matches %s", pattern)
	if r.Drop {
		do.Drop()
	}
	for i := range r.Injectors {
		r.answer(&r.Injectors[i], f, p, do, h, q)
	}
}

// answer forges one. For names that an injector makes exist, only A and AAAA are answered.
func (r *DNSInjection) answer(i *DNSInjector, f *firewall.Flow, p *firewall.Packet, do *firewall.Action, h dnsmessage.Header, q dnsmessage.Question) {
	var from Nets
	switch {
	case i.rcode != 0:
	case q.Type == dnsmessage.TypeA:
		from = r.A
		if i.a != nil {
			from = i.a
		} else if len(from) == 0 {
			from = documentation4
		}
	case q.Type == dnsmessage.TypeAAAA:
		from = r.AAAA
		if len(from) == 0 && i.a == nil {
			from = documentation6
		}
	default:
		return
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, Authoritative: i.aa, RecursionDesired: h.RecursionDesired,
		RecursionAvailable: true, RCode: i.rcode})
	b.EnableCompression()
	record := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: i.seconds[0] + uint32(f.IntN(int(i.seconds[1]-i.seconds[0])+1))}
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	if len(from) > 0 {
		switch address := pick(f, from); {
		case address.Is4():
			err = errors.Join(err, b.AResource(record, dnsmessage.AResource{A: address.As4()}))
		default:
			err = errors.Join(err, b.AAAAResource(record, dnsmessage.AAAAResource{AAAA: address.As16()}))
		}
	}
	payload, last := b.Finish()
	if err != nil || last != nil {
		return // a name that cannot be said: the question was read, but is none
	}
	forged := firewall.Forged{DF: i.df, TTL: i.ttl(i, f, p), Payload: payload, After: exponential(f, i.min, i.mean, i.max)}
	if !i.noID {
		forged.ID = uint16(1 + f.IntN(0xffff))
	}
	if r.After != (Lag{}) {
		forged.After = r.After.draw(f)
	}
	do.Send(forged)
}

// pick draws an address.
func pick(f *firewall.Flow, from Nets) netip.Addr {
	n := from[f.IntN(len(from))]
	b := n.Masked().Addr().AsSlice()
	for bit := n.Bits(); bit < len(b)*8; bit++ {
		if f.IntN(2) == 1 {
			b[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// stream looks at the first question of a connection (RFC 1035, section 4.2.2).
func (r *DNSInjection) stream(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	text := do.Text()
	if !p.FromClient || len(text) == 0 {
		return
	}
	if len(text) < 2 || len(text) < 2+int(binary.BigEndian.Uint16(text)) {
		return
	}
	do.Done()
	if _, _, pattern := r.question(text[2 : 2+int(binary.BigEndian.Uint16(text))]); pattern != "" {
		r.TCP.do(f, do, "question matches %s", pattern)
	}
}
