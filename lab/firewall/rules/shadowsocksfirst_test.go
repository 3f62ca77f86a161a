package rules

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestShadowsocksFirst(t *testing.T) {
	t.Parallel()
	set := func() Set { return Set{ShadowsocksFirst: []*ShadowsocksFirst{{}}} }
	// shadowsocks-libev with curl in it: first packets of 642 bytes, which is 2 more than a multiple of 16. Each seed draws
	// for four connections, nearly always with success; nothing of it is dropped.
	program := own(t, "shadowsocks-curl")
	found := 0
	seeds(t, func(t *testing.T, seed uint64) {
		var suspects []firewall.Suspect
		box := newBox(t, firewall.InPath, set(), withSeed(seed), func(c *firewall.Config) {
			c.Prober = func(s firewall.Suspect) { suspects = append(suspects, s) }
		})
		res := firewalltest.Pass(box, program)
		if len(res.Dropped)+len(res.Forged) > 0 || len(suspects) != len(res.Events) {
			t.Errorf("dropped %v, forged %d, %d suspects for %d events", res.Dropped, len(res.Forged), len(suspects), len(res.Events))
		}
		found += len(suspects)
		for _, s := range suspects {
			if s.Server.String() != "203.0.113.20:8388" || len(s.First) != 642 {
				t.Errorf("suspect %v, first packet of %d bytes", s.Server, len(s.First))
			}
		}
		for _, name := range append(append([]string{}, ordinary...), "godwit", "trojan", "reality") {
			if got := fired(t, set(), recorded(t, name), withSeed(seed)); len(got) > 0 {
				t.Errorf("%s is hit: %q", name, got)
			}
		}
	})
	if found < 60 || found > 80 {
		t.Errorf("%d of 80 found", found)
	}
}

// TestShadowsocksFirstShares draws for many lengths and compares with the paper's table.
func TestShadowsocksFirstShares(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		b[0] = 0x81
		return string(b)
	}
	rule := &ShadowsocksFirst{}
	box := newBox(t, firewall.InPath, Set{ShadowsocksFirst: []*ShadowsocksFirst{rule}})
	counts := map[int]map[int]int{}
	before := 0
	for i := range 8000 {
		n := 168 + i%(687-168+1)
		client := fmt.Sprintf("192.0.2.1:%d", 10000+i)
		firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, "203.0.113.20:8388", time.Duration(i)*10*time.Millisecond, ">"+random(n)))
		if i%500 != 0 && i != 7999 {
			continue
		}
		events := box.Events()
		for _, e := range events[before:] {
			var size int
			fmt.Sscanf(e.Detail, "a first packet of %d bytes", &size)
			class := 384
			if size < 264 {
				class = 168
			} else if size < 384 {
				class = 264
			}
			if counts[class] == nil {
				counts[class] = map[int]int{}
			}
			counts[class][size%16]++
			counts[class][-1]++
		}
		before = len(events)
	}
	for _, c := range []struct {
		class, remainder int
		share            float64
	}{{168, 9, 0.72}, {264, 9, 0.37}, {264, 2, 0.32}, {384, 2, 0.96}} {
		n := counts[c.class][-1]
		got := float64(counts[c.class][c.remainder]) / float64(n)
		if sigma := math.Sqrt(c.share * (1 - c.share) / float64(n)); math.Abs(got-c.share) > 6*sigma+0.01 {
			t.Errorf("from %d on, remainder %d: %.3f of %d, want %.2f", c.class, c.remainder, got, n, c.share)
		}
	}

	if r := byEntropy(7.2) / byEntropy(3); math.Abs(r-4) > 0.01 {
		t.Errorf("7.2 bits are %v times as likely as 3", r)
	}
	if got := entropy([]byte(strings.Repeat("ab", 50))); got != 1 {
		t.Errorf("entropy %v", got)
	}
	// From the thirteenth connection on, within a day.
	box = newBox(t, firewall.InPath, Set{ShadowsocksFirst: []*ShadowsocksFirst{{Connections: 13}}})
	for i := range 14 {
		firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, fmt.Sprintf("192.0.2.1:%d", 20000+i), "203.0.113.20:8388", time.Duration(i)*time.Second,
			">"+random(386)))
		if n := len(box.Events()); n > max(0, i-11) {
			t.Errorf("%d found after %d connections", n, i+1)
		}
	}
	if len(box.Events()) == 0 {
		t.Error("none found after 14 connections")
	}
}
