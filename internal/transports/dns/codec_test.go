package dns

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// Names hold what they are said to, stay within their bounds, and survive any case.
func TestNames(t *testing.T) {
	for _, zone := range []string{testZone, "a.b", strings.Repeat("z", 40) + ".example"} {
		for _, most := range []int{ShortName, 100, 200, MaxName} {
			for n := 1; n <= nameRoom(most, zone); n++ {
				data := random(n)
				name := string(appendName(nil, data, zone))
				if _, ok := dns.IsDomainName(name); !ok || len(name)-1 > most {
					t.Fatalf("%d bytes as %q, of %d letters", n, name, len(name)-1)
				}
				shuffled := []byte(name)
				for i, c := range shuffled {
					if c >= 'a' && c <= 'z' && rand.IntN(2) == 0 {
						shuffled[i] = c - 'a' + 'A'
					}
				}
				if got, err := parseName(string(shuffled), zone); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes came back as %d, %v", n, len(got), err)
				}
			}
			room := nameRoom(most, zone)
			if long := len(appendName(nil, random(room+1), zone)) - 1; room > 0 && long <= most {
				t.Errorf("a name of %d letters under %q has room for more than %d bytes", most, zone, room)
			}
		}
	}
}

// Answers fit as computed, whatever the name, and come back in any order.
func TestAnswers(t *testing.T) {
	for _, mode := range modes {
		for _, size := range []int{minMessage, 900, maxMessage} {
			for _, edns := range []bool{false, true} {
				for _, letters := range []int{40, ShortName, 150, MaxName} {
					m := new(dns.Msg).SetQuestion(string(appendName(nil, random(nameRoom(letters, testZone)), testZone)), mode)
					name := m.Question[0].Name
					room := answerRoom(mode, size, len(name)-1, edns, testZone)
					for _, n := range []int{1, room / 2, room - 1, room} {
						data := random(n)
						a := new(dns.Msg).SetReply(m)
						a.Compress = true
						if edns {
							a.SetEdns0(maxMessage, false)
						}
						a.Answer = answerRecords(mode, name, data, testZone)
						wire, err := a.Pack()
						if err != nil || len(wire) > size {
							t.Fatalf("%s: %d bytes make %d of %d, %v", dns.TypeToString[mode], n, len(wire), size, err)
						}
						if err := a.Unpack(wire); err != nil {
							t.Fatal(err)
						}
						rand.Shuffle(len(a.Answer), func(i, j int) { a.Answer[i], a.Answer[j] = a.Answer[j], a.Answer[i] })
						if got, err := parseAnswer(mode, a.Answer, testZone); err != nil || !bytes.Equal(got, data) {
							t.Fatalf("%s: %d bytes came back as %d, %v", dns.TypeToString[mode], n, len(got), err)
						}
						if len(a.Answer) > 1 {
							if got, err := parseAnswer(mode, a.Answer[1:], testZone); err == nil && bytes.Equal(got, data) {
								t.Error("a record is missing, and nobody misses it")
							}
						}
					}
				}
			}
		}
	}
}

// Addresses in answers are none that resolvers refuse to pass on.
func TestAddressesArePublic(t *testing.T) {
	for _, mode := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range answerRecords(mode, "x.", random(maxRecords*3-1), testZone) {
			var ip netip.Addr
			switch rr := rr.(type) {
			case *dns.A:
				ip, _ = netip.AddrFromSlice(rr.A)
			case *dns.AAAA:
				ip, _ = netip.AddrFromSlice(rr.AAAA)
			}
			if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() {
				t.Errorf("%v", ip)
			}
		}
	}
}

func TestSeal(t *testing.T) {
	k := newKey(transporttest.Lock{}, testZone)
	plain := []byte("a query and what is in it")
	sealed := k.seal(isQuery, nil, plain)
	if got, err := k.open(isQuery, nil, bytes.Clone(sealed)); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q, %v", got, err)
	}
	other := bytes.Clone(plain)
	other[len(other)-1] ^= 1
	if same := commonPrefix(sealed, k.seal(isQuery, nil, other)); same > 2 {
		t.Errorf("a difference at the end leaves %d bytes as they were", same)
	}
	another := newKey(otherHolders{}, testZone)
	for name, err := range map[string]error{
		"as an answer": second(k.open(isAnswer, nil, bytes.Clone(sealed))), "another query's": second(k.open(isQuery, []byte("1234"), bytes.Clone(sealed))),
		"another network's": second(another.open(isQuery, nil, bytes.Clone(sealed))), "cut": second(k.open(isQuery, nil, bytes.Clone(sealed[:3]))),
		"another zone's": second(newKey(transporttest.Lock{}, "u.example.net").open(isQuery, nil, bytes.Clone(sealed))),
	} {
		if err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

// otherHolders are those of another network.
type otherHolders struct{ transporttest.Key }

func (otherHolders) Shade([]byte) [32]byte { return [32]byte{1} }

func second(_ []byte, err error) error { return err }

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestQueries(t *testing.T) {
	for _, q := range []query{
		{session: 0xabcdef, nonce: 1, kind: kindOpen, mode: dns.TypeTXT, size: maxMessage, segment: 204, packet: []byte("packet")},
		{session: 1, nonce: 65535, kind: kindData, mode: dns.TypeA, size: minMessage, packet: []byte{}},
		{session: 0, nonce: 0, kind: kindClose, mode: dns.TypeCNAME, size: 632, packet: []byte{}},
	} {
		if got, ok := parseQuery(q.append(nil)); !ok || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v came back as %+v, %v", q, got, ok)
		}
	}
	// As PROTOCOL.md has it, and OpenSSL computes it.
	k := newKey(transporttest.Lock{}, "T.example.net")
	sealed := k.seal(isQuery, nil, []byte{1, 2, 3, 4, 5, 1<<6 | 3<<3 | 6, 15, 6})
	if got := hex.EncodeToString(sealed); got != "b623b1c3f34919f015450f73" {
		t.Errorf("a query is sealed as %s", got)
	}
	if got := hex.EncodeToString(k.seal(isAnswer, sealed[:tagLen], []byte{2, 0x7f, 0, 1})); got != "db805e330041f3cc" {
		t.Errorf("an answer is sealed as %s", got)
	}
	q := query{session: 0x010203, nonce: 0x0405, kind: kindOpen, mode: dns.TypeAAAA, size: maxMessage, segment: 60, packet: []byte{6}}
	if got := q.append(nil); !bytes.Equal(got, []byte{1, 2, 3, 4, 5, 1<<6 | 3<<3 | 6, 15, 6}) {
		t.Errorf("% x", got)
	}
	p := packet{acked: true, window: 127, una: 0x0102, acks: []uint16{0x0304}, ask: true, pushes: []push{{5, []byte("ab")}, {6, []byte("c")}}}
	if got := p.append(nil); !bytes.Equal(got, []byte{255, 1, 2, 0x80, 3, 4, 0xc1, 0x40, 2, 0, 5, 'a', 'b', 0, 0, 6, 'c'}) {
		t.Errorf("% x", got)
	}
}

func FuzzName(f *testing.F) {
	f.Add(string(appendName(nil, []byte("some bytes"), testZone)))
	f.Add("aa." + testZone + ".")
	f.Add(strings.Repeat("A", 63) + "." + testZone)
	f.Add(strings.Repeat("2", 64) + "." + testZone)
	f.Fuzz(func(t *testing.T, name string) {
		data, err := parseName(name, testZone)
		if err != nil {
			return
		}
		if again := string(appendName(nil, data, testZone)); !strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(again, ".")) {
			t.Errorf("%q is read as what is written %q", name, again)
		}
	})
}

func FuzzPacket(f *testing.F) {
	p := packet{acked: true, window: 3, una: 9, acks: []uint16{7}, tell: true, pushes: []push{{5, []byte("ab")}, {6, []byte("c")}}}
	f.Add(p.append(nil))
	for _, long := range []int{maxSegment, maxSegment + 1, 2000} { // KCP's buffers have 1,500 bytes
		p := packet{window: 3, pushes: []push{{0, make([]byte, long)}}}
		f.Add(p.append(nil))
		p.pushes = append(p.pushes, push{1, []byte("c")})
		f.Add(p.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parsePacket(b)
		if !ok {
			return
		}
		if again, ok := parsePacket(p.append(nil)); !ok || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v is written as %+v", p, again)
		}
		a := newARQ(100, maxWindow)
		a.write(make([]byte, 1000))
		a.update()
		a.input(b)
		a.read(make([]byte, 100))
	})
}

func FuzzQuery(f *testing.F) {
	q := query{session: 5, nonce: 1, kind: kindOpen, mode: dns.TypeA, size: minMessage, segment: 8}
	f.Add(q.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, ok := parseQuery(b); ok && !bytes.Equal(q.append(nil), b) {
			t.Errorf("% x is read as %+v", b, q)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, mode := range modes {
		m := new(dns.Msg).SetQuestion("x."+testZone+".", mode)
		m.Answer = answerRecords(mode, "x."+testZone+".", []byte("some bytes"), testZone)
		wire, _ := m.Pack()
		f.Add(wire, mode)
	}
	f.Fuzz(func(t *testing.T, wire []byte, mode uint16) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		data, err := parseAnswer(mode, m.Answer, testZone)
		if err == nil && len(data) > len(wire)*8 {
			t.Errorf("%d bytes hold %d", len(wire), len(data))
		}
	})
}

// FuzzServer asks the gateway anything: what is not sealed makes no session, and nothing breaks it.
func FuzzServer(f *testing.F) {
	g := newGateway(f, func(c *ListenConfig) { c.Hold = time.Nanosecond })
	key := newKey(transporttest.Lock{}, testZone)
	q := query{session: 5, nonce: 1, kind: kindOpen, mode: dns.TypeTXT, size: minMessage, segment: 8}
	for _, sealed := range [][]byte{key.seal(isQuery, nil, q.append(nil)), []byte("not sealed at all")} {
		wire, _ := new(dns.Msg).SetQuestion(string(appendName(nil, sealed, testZone)), dns.TypeTXT).Pack()
		f.Add(wire, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		m := new(dns.Msg)
		if seal { // what a user could say
			b = b[:min(len(b), nameRoom(MaxName, testZone)-tagLen)]
			m.SetQuestion(string(appendName(nil, key.seal(isQuery, nil, b), testZone)), dns.TypeTXT)
		} else if m.Unpack(b) != nil {
			return
		}
		a, limit := g.reply(m, netip.MustParseAddr("192.0.2.1"), true)
		if a == nil {
			return
		}
		if wire, err := a.Pack(); err == nil && len(wire) > limit+1000 {
			t.Errorf("an answer of %d bytes for %d", len(wire), limit)
		}
	})
}
