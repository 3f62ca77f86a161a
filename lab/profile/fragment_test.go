package profile

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// said keeps what a client writes, and has nothing for it to read.
type said struct {
	net.Conn
	writes []string
}

func (s *said) Write(b []byte) (int, error) {
	s.writes = append(s.writes, string(b))
	return len(b), nil
}
func (s *said) Read([]byte) (int, error) { return 0, net.ErrClosed }
func (s *said) Close() error             { return nil }

// mss is how much of it is in one segment of an ordinary path, with a TCP header without options.
const mss = 1460

// hello is a ClientHello for a name in segments, cut in one of the ways that a client has: today's Chrome's, or one of the
// days before post-quantum keys, which one segment holds.
func hello(t *testing.T, name string, old bool, how transport.Fragment) (texts []string) {
	t.Helper()
	s := new(said)
	if old {
		c := tls.Client(chrome.Fragmented(s, how), &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}})
		c.Handshake() // which nobody answers
	} else {
		u, err := chrome.Client(chrome.Fragmented(s, how), &utls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		u.Handshake()
	}
	for _, w := range s.writes {
		for part := range slices.Chunk([]byte(w), mss) {
			texts = append(texts, ">"+string(part))
		}
	}
	return append(texts, "<"+strings.Repeat("s", 1000), ">"+strings.Repeat("c", 100), "<"+strings.Repeat("s", 1000))
}

// Which firewalls miss a banned name in a hello that is cut, and which do not. Whoever reads single packets misses today's
// Chrome's anyway, which takes two; whoever reassembles TCP but not records is blind to two records; and whoever does both
// sees everything, however it is cut.
func TestFragments(t *testing.T) {
	t.Parallel()
	const none, tcp, record, both = transport.FragmentNone, transport.FragmentTCP, transport.FragmentRecord, transport.FragmentBoth
	all := []transport.Fragment{none, tcp, record, both}
	for _, c := range []struct {
		profile, box, name string
		old                bool
		sees               []transport.Fragment
	}{
		{"henan", "henan", "www.region.example", true, []transport.Fragment{none}},
		{"henan", "henan", "www.region.example", false, nil},
		{"henan", "gfw", "www.banned.example", true, all},
		{"henan", "gfw", "www.banned.example", false, all},
		{"gfw-2025", "gfw", "www.banned.example", true, all},
		{"gfw-2025", "gfw", "www.banned.example", false, all},
		{"gfw-2023", "gfw", "www.banned.example", true, []transport.Fragment{none, tcp}},
		{"gfw-2023", "gfw", "www.banned.example", false, []transport.Fragment{none, tcp}},
		{"vpn-ban-2018", "gfw", "www.banned.example", true, []transport.Fragment{none, tcp}},
		{"vpn-ban-2018", "gfw", "www.banned.example", false, []transport.Fragment{none, tcp}},
		{"iran-whitelist", "filter", "www.banned.example", true, []transport.Fragment{none, tcp}},
		{"iran-whitelist", "filter", "www.banned.example", false, []transport.Fragment{none, tcp}},
		{"tspu-2025", "tspu", "www.banned.example", true, []transport.Fragment{none, tcp}},
		{"tspu-2025", "tspu", "www.banned.example", false, []transport.Fragment{none, tcp}},
	} {
		for _, how := range all {
			for seed := range uint64(5) {
				p, err := Load(c.profile)
				if err != nil {
					t.Fatal(err)
				}
				w, err := p.Build(seed, nil)
				if err != nil {
					t.Fatal(err)
				}
				sees := false
				for i, b := range w.Boxes {
					res := firewalltest.Pass(b, firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "198.51.100.80:443", 0,
						hello(t, c.name, c.old, how)...))
					for _, rule := range res.Fired() {
						sees = sees || p.Boxes[i].Name == c.box && strings.HasPrefix(rule, "tls-name")
						if !strings.HasPrefix(rule, "tls-name") {
							t.Errorf("%s, cut %v: %s fired", c.profile, how, rule)
						}
					}
				}
				if want := slices.Contains(c.sees, how); sees != want {
					t.Errorf("%s's box %s, old %v, cut %v, seed %d: sees the name %v, want %v", c.profile, c.box, c.old, how, seed, sees, want)
				}
			}
		}
	}
}

// Who reads packet by packet what may pass, as Iran does in front of hosters, finds TLS in a hello that is cut, too.
func TestFragmentsMayPass(t *testing.T) {
	t.Parallel()
	for _, how := range []transport.Fragment{transport.FragmentNone, transport.FragmentTCP, transport.FragmentRecord, transport.FragmentBoth} {
		for _, old := range []bool{true, false} {
			for seed := range uint64(10) {
				frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "198.51.100.20:443", 0, hello(t, "www.allowed.example", old, how)...)
				if rules := found(t, "iran-whitelist", seed, frames); len(rules) > 0 {
					t.Errorf("cut %v, old %v, seed %d: %v", how, old, seed, rules)
				}
			}
		}
	}
	junk := firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "198.51.100.20:443", 0, ">"+strings.Repeat("\xd7", 100), "<x", ">"+strings.Repeat("\xd7", 100), "<x")
	if rules := found(t, "iran-whitelist", 1, junk); !slices.Contains(rules, "allow-protocols") {
		t.Errorf("what is no TLS met %v", rules)
	}
}
