package rules

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// newBox makes a box of one rule of every kind that is in the set.
func newBox(t testing.TB, place firewall.Place, set Set, change ...func(*firewall.Config)) *firewall.Box {
	t.Helper()
	named, err := set.Named(place, Groups{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := firewall.Config{Name: "box", Place: place, Rules: named, Seed: 1, ReassembleTCP: true}
	for _, f := range change {
		f(&cfg)
	}
	box, err := firewall.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// spans and scopes for tables.
func always(d time.Duration) Span { return Span{d, d} }

func scope(s firewall.Scope) *firewall.Scope { return &s }

// hello is Go's ClientHello for a name.
func hello(t testing.TB, name string) string {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
	defer a.Close()
	buf := make([]byte, 4096)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestFullyEncrypted(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	random[0] = 0xff
	for _, c := range []struct {
		name    string
		first   string
		blocked bool
	}{
		{"random", string(random), true},
		{"six printable bytes before it", "GODWIT" + string(random), false},
		{"a TLS record's header before it", "\x16\x03\x01" + string(random), false},
		{"a verb before it", "GET " + string(random), false},
		{"zeros", strings.Repeat("\x00", 300), false},
		{"text", "\x00\x01" + strings.Repeat("some text ", 30), false},
		{"a ClientHello", hello(t, "allowed.example"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, firewall.InPath, Set{FullyEncrypted: []*FullyEncrypted{{Then: Then{Block: scope(firewall.Pair),
				Way: firewall.ToServer, For: always(180 * time.Second)}}}})
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:8388", 0,
				">"+c.first, "<answer", ">more", "<more"))
			want := []int(nil)
			if c.blocked {
				want = []int{5} // the client's next; the server's still come
			}
			if !slices.Equal(res.Dropped, want) {
				t.Errorf("dropped %v, want %v", res.Dropped, want)
			}
		})
	}
	t.Run("now and then", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{FullyEncrypted: []*FullyEncrypted{{Chance: 0.263, Then: Then{Block: scope(firewall.Connection)}}}})
		for i := range 2000 {
			client := net.JoinHostPort("192.0.2.1", []string{"1", "2", "3", "4"}[i%4]+string([]byte{'0' + byte(i/4/100), '0' + byte(i/4/10%10), '0' + byte(i/4%10)}))
			firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, "198.51.100.1:8388", 0, ">"+string(random)))
		}
		if n := len(box.Events()); n < 450 || n > 602 { // 526, five sigma
			t.Errorf("%d of 2000 found", n)
		}
	})
}

func TestChecks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field string
		set   Set
	}{
		{"names", Set{TLSName: []*TLSName{{Then: Then{Drop: true}}}}},
		{"chance", Set{TLSName: []*TLSName{{Names: Names{"x"}, Chance: 2, Then: Then{Drop: true}}}}},
		{"then", Set{TLSName: []*TLSName{{Names: Names{"x"}}}}},
		{"then.block", Set{TLSName: []*TLSName{{Names: Names{"x"}, Then: Then{Drop: true, Extend: true}}}}},
		{"then.again", Set{TLSName: []*TLSName{{Names: Names{"x"}, Then: Then{Block: scope(firewall.Pair), Again: true}}}}},
		{"to", Set{TLSName: []*TLSName{{Names: Names{"x"}, To: Nets{{group: "nobody"}}, Then: Then{Drop: true}}}}},
		{"names", Set{TLSName: []*TLSName{{Names: Names{"@nobody"}, Then: Then{Drop: true}}}}},
	} {
		_, err := c.set.Named(firewall.InPath, Groups{})
		if err == nil || !strings.Contains(err.Error(), `field "`+c.field+`"`) {
			t.Errorf("want field %q, got %v", c.field, err)
		}
	}
	if _, err := (&Set{TLSName: []*TLSName{{Names: Names{"x"}, Then: Then{Drop: true}}}}).Named(firewall.OnPath, Groups{}); err == nil {
		t.Error("a box that sees a copy drops")
	}
}
