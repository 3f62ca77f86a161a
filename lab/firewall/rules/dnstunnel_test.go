package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// ask is a query as it goes over UDP.
func ask(t testing.TB, name string, kind dnsmessage.Type) string {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDNSTunnel(t *testing.T) {
	t.Parallel()
	rule := func() *DNSTunnel {
		return &DNSTunnel{Name: 72, Unique: 30, Rare: 0.5, Then: Then{Drop: true}}
	}
	const resolver = "198.51.100.53:53"
	// A name of n bytes as a tunnel makes them, all different.
	tunnel := func(i, n int) string {
		name := fmt.Sprintf("%08x.t.example", i*2654435761)
		for len(name) < n {
			add := min(n-len(name), 50)
			if add == 1 {
				return "a" + name
			}
			name = strings.Repeat("b", add-1) + "." + name
		}
		return name
	}
	t.Run("crafted", func(t *testing.T) {
		for _, c := range []struct {
			name    string
			queries func(i int) string
			gap     time.Duration
			n       int
			dropped int
		}{
			{"72 bytes", func(i int) string { return ask(t, tunnel(0, 72), dnsmessage.TypeA) }, time.Second, 10, 0},
			{"73 bytes", func(i int) string { return ask(t, tunnel(0, 73), dnsmessage.TypeA) }, time.Second, 10, 10},
			{"many names in a zone", func(i int) string { return ask(t, tunnel(i, 40), dnsmessage.TypeA) }, 100 * time.Millisecond, 100, 70},
			{"many names, slowly", func(i int) string { return ask(t, tunnel(i, 40), dnsmessage.TypeA) }, 3 * time.Second, 100, 0},
			{"many zones", func(i int) string { return ask(t, fmt.Sprintf("www.site%d.example", i), dnsmessage.TypeA) }, 100 * time.Millisecond, 100, 0},
			{"one name, often", func(i int) string { return ask(t, "www.site.example", dnsmessage.TypeA) }, 100 * time.Millisecond, 100, 0},
			{"TXT", func(i int) string { return ask(t, "www.site.example", dnsmessage.TypeTXT) }, time.Second, 30, 11},
			{"NULL", func(i int) string { return ask(t, "www.site.example", 10) }, time.Second, 30, 11},
			{"some TXT", func(i int) string {
				return ask(t, "www.site.example", []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeTXT}[i%3])
			}, time.Second, 59, 0},
			{"no DNS", func(i int) string { return "\xff\xff" }, time.Second, 10, 0},
		} {
			box := newBox(t, firewall.InPath, Set{DNSTunnel: []*DNSTunnel{rule()}})
			dropped := 0
			for i := range c.n {
				frames := firewalltest.Conn(t, firewall.UDP, fmt.Sprintf("192.0.2.1:%d", 40000+i), resolver, time.Duration(i)*c.gap, ">"+c.queries(i))
				dropped += len(firewalltest.Pass(box, frames).Dropped)
			}
			if dropped != c.dropped {
				t.Errorf("%s: %d of %d dropped, want %d", c.name, dropped, c.n, c.dropped)
			}
		}
	})
	t.Run("one flow, TCP", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{DNSTunnel: []*DNSTunnel{rule()}})
		long := ask(t, tunnel(0, 100), dnsmessage.TypeA)
		res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", resolver, 0, ">\x00"+string(rune(len(long)))+long))
		if len(res.Dropped) != 1 {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, name := range ordinary {
				box := newBox(t, firewall.InPath, Set{DNSTunnel: []*DNSTunnel{rule()}}, withSeed(seed))
				if res := firewalltest.Pass(box, recorded(t, name)); len(res.Events) > 0 {
					t.Errorf("%s: %v", name, res.Events)
				}
			}
		})
	})
}

func FuzzQuestion(f *testing.F) {
	f.Add([]byte(ask(f, "www.site.example", dnsmessage.TypeA)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, _, ok := question(b); ok && len(name) > 1024 {
			t.Errorf("a name of %d bytes", len(name))
		}
	})
}
