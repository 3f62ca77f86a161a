package rules

import (
	"fmt"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// junk is a first packet that fully-encrypted finds.
func junk() string {
	b := make([]byte, 300)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	b[0] = 0xff
	return string(b)
}

func TestAccumulation(t *testing.T) {
	t.Parallel()
	firstStage := []*FullyEncrypted{{Then: Then{Probe: true}}} // only tells
	port := 1024
	dial := func(t *testing.T, box *firewall.Box, at time.Duration, server, first string, more ...string) firewalltest.Result {
		port++
		return firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, fmt.Sprintf("192.0.2.1:%d", port), server, at,
			append([]string{">" + first, "<answer"}, more...)...))
	}
	accumulated := func(box *firewall.Box) (n int) {
		for _, e := range box.Events() {
			if e.Rule == "accumulation" {
				n++
			}
		}
		return n
	}
	const server = "198.51.100.1:443"
	t.Run("connections", func(t *testing.T) {
		rule := &Accumulation{Flows: 30, Of: []string{"fully-encrypted"}, Then: Then{Block: scope(firewall.Endpoint), For: always(time.Hour)}}
		box := newBox(t, firewall.InPath, Set{FullyEncrypted: firstStage, Accumulation: []*Accumulation{rule}})
		for i := range 29 {
			dial(t, box, time.Duration(i)*time.Minute, server, junk())
			dial(t, box, time.Duration(i)*time.Minute, "198.51.100.1:8443", junk()) // counted apart
			dial(t, box, time.Duration(i)*time.Minute, server, hello(t, "x.example"))
		}
		if n := accumulated(box); n != 0 {
			t.Fatalf("acted %d times after 29", n)
		}
		dial(t, box, 30*time.Minute, server, junk())
		if n := accumulated(box); n != 1 {
			t.Fatalf("acted %d times after 30", n)
		}
		for _, c := range []struct {
			server string
			at     time.Duration
			passed int
		}{{server, 31 * time.Minute, 0}, {"198.51.100.1:80", 31 * time.Minute, 5}, {server, 91 * time.Minute, 5}} {
			if res := dial(t, box, c.at, c.server, hello(t, "x.example")); res.Passed != c.passed {
				t.Errorf("%s at %v: %d passed, want %d", c.server, c.at, res.Passed, c.passed)
			}
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		rule := &Accumulation{Flows: 10, Within: Dur(time.Hour), Of: []string{"fully-encrypted"}, Then: Then{Block: scope(firewall.Endpoint)}}
		box := newBox(t, firewall.InPath, Set{FullyEncrypted: firstStage, Accumulation: []*Accumulation{rule}})
		for i := range 30 {
			dial(t, box, time.Duration(i)*10*time.Minute, server, junk())
		}
		if n := accumulated(box); n != 0 {
			t.Errorf("acted %d times", n)
		}
	})
	t.Run("in proportion", func(t *testing.T) {
		acted := 0
		seeds(t, func(t *testing.T, seed uint64) {
			rule := &Accumulation{Each: 0.1, Then: Then{Probe: true}}
			box := newBox(t, firewall.InPath, Set{Accumulation: []*Accumulation{rule}}, withSeed(seed))
			for i := range 100 {
				dial(t, box, time.Duration(i)*time.Second, server, hello(t, "x.example"))
			}
			acted += accumulated(box)
		})
		if acted < 133 || acted > 267 { // 200 of 2000, five sigma
			t.Errorf("acted %d times", acted)
		}
	})
	t.Run("volume", func(t *testing.T) {
		for _, ofPort := range []bool{false, true} {
			rule := &Accumulation{Volume: 1_000_000, VolumeOfPort: ofPort, Then: Then{Block: scope(firewall.Endpoint)}}
			rule.Then.Wait.Low, rule.Then.Wait.High = 24*time.Hour, 24*time.Hour
			box := newBox(t, firewall.InPath, Set{Accumulation: []*Accumulation{rule}})
			load := talk(200, 1400) // 290 KB with headers
			for i := range 4 {
				dial(t, box, time.Duration(i)*time.Hour, fmt.Sprintf("198.51.100.1:%d", 443+i%2), "x", load...)
			}
			if n, want := accumulated(box), map[bool]int{false: 1, true: 0}[ofPort]; n != want {
				t.Errorf("of the port %v: acted %d times, want %d", ofPort, n, want)
			}
			if ofPort {
				continue
			}
			if res := dial(t, box, 10*time.Hour, "198.51.100.1:444", "x"); res.Passed != 5 {
				t.Error("it does not wait")
			}
			if res := dial(t, box, 28*time.Hour, "198.51.100.1:444", "x"); res.Passed != 0 {
				t.Error("it is not blocked")
			}
		}
		rule := &Accumulation{Volume: 1_000_000, Then: Then{Block: scope(firewall.Address)}}
		box := newBox(t, firewall.InPath, Set{Accumulation: []*Accumulation{rule}})
		for i := range 10 { // 290 KB a day
			dial(t, box, time.Duration(i)*25*time.Hour, server, "x", talk(200, 1400)...)
		}
		if n := accumulated(box); n != 0 {
			t.Errorf("acted %d times for little a day", n)
		}
	})
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			acted := func(name string) int {
				rules := Set{TLSInTLS: []*TLSInTLS{{Model: "trojan"}, {Model: "xue"}},
					Accumulation: []*Accumulation{{Flows: 5, Of: []string{"tls-in-tls"}, Then: Then{Block: scope(firewall.Endpoint)}}}}
				box := newBox(t, firewall.InPath, rules, withSeed(seed))
				firewalltest.Pass(box, firewalltest.Read(t, "../testdata/models/"+name+".pcap"))
				return accumulated(box)
			}
			for name, want := range map[string]int{"trojan": 1, "shadowsocks": 1, "curl": 0, "chromium": 0, "godwit": 0} {
				if got := acted(name); got != want {
					t.Errorf("%s: acted %d times, want %d", name, got, want)
				}
			}
		})
	})
}
