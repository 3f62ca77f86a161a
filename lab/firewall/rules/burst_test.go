package rules

import (
	"fmt"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestBurst(t *testing.T) {
	t.Parallel()
	const server = "198.51.100.1:443"
	one := hello(t, "www.example")
	// dials opens so many connections, gap apart, and tells how many were swallowed.
	port := 40000
	dials := func(t *testing.T, box *firewall.Box, begin time.Duration, n int, gap time.Duration, hello, server string) (swallowed int) {
		t.Helper()
		for i := range n {
			port++
			frames := firewalltest.Conn(t, firewall.TCP, fmt.Sprintf("192.0.2.1:%d", port), server, begin+time.Duration(i)*gap,
				">"+hello, "<"+hello, ">more", "<more")
			if res := firewalltest.Pass(box, frames); len(res.Dropped) == 4 {
				swallowed++
			} else if len(res.Dropped) != 0 {
				t.Errorf("%d packets dropped", len(res.Dropped))
			}
		}
		return swallowed
	}
	type dialled struct {
		after     time.Duration
		n         int
		gap       time.Duration
		swallowed int
	}
	for _, c := range []struct {
		name  string
		hello func(i int) string
		to    func(i int) string
		set   func(*Burst)
		dials []dialled
	}{
		{name: "four at once", dials: []dialled{{0, 4, 10 * ms, 1}}},
		{name: "three at once", dials: []dialled{{0, 3, 10 * ms, 0}}},
		{name: "ten, 450 ms apart", dials: []dialled{{0, 10, 450 * ms, 0}}},
		{name: "ten, 340 ms apart", dials: []dialled{{0, 10, 340 * ms, 7}}},
		{name: "two pairs within a minute", dials: []dialled{{0, 2, 10 * ms, 0}, {30 * time.Second, 2, 10 * ms, 1}}},
		{name: "two pairs, a minute apart", dials: []dialled{{0, 2, 10 * ms, 0}, {61 * time.Second, 2, 10 * ms, 0}}},
		{name: "for two minutes", dials: []dialled{{0, 4, 10 * ms, 1}, {119 * time.Second, 1, 0, 1}, {121 * time.Second, 1, 0, 0}}},
		{name: "extended", set: func(r *Burst) { r.Extend = true },
			dials: []dialled{{0, 4, 10 * ms, 1}, {119 * time.Second, 1, 0, 1}, {121 * time.Second, 1, 0, 1}}},
		{name: "without a name", hello: func(int) string { return hello(t, "") }, dials: []dialled{{0, 10, 10 * ms, 0}}},
		{name: "with another name each", hello: func(i int) string { return hello(t, fmt.Sprintf("%d.example", i)) },
			dials: []dialled{{0, 10, 10 * ms, 0}}},
		{name: "a name that is spared", set: func(r *Burst) { r.ExceptNames = Names{"www.example"} }, dials: []dialled{{0, 10, 10 * ms, 0}}},
		{name: "another fingerprint", set: func(r *Burst) { r.JA4 = []string{"t13d1516h2_*"} }, dials: []dialled{{0, 10, 10 * ms, 0}}},
		{name: "neighbours", to: func(i int) string { return fmt.Sprintf("198.51.100.%d:443", i+1) }, dials: []dialled{{0, 4, 10 * ms, 1}}},
		{name: "different networks", to: func(i int) string { return fmt.Sprintf("198.51.%d.1:443", i) }, dials: []dialled{{0, 4, 10 * ms, 0}}},
	} {
		rule := &Burst{}
		if c.set != nil {
			c.set(rule)
		}
		box := newBox(t, firewall.InPath, Set{Burst: []*Burst{rule}})
		i := 0
		for _, d := range c.dials {
			swallowed := 0
			for n := range d.n {
				say, to := one, server
				if c.hello != nil {
					say = c.hello(i)
				}
				if c.to != nil {
					to = c.to(i)
				}
				swallowed += dials(t, box, d.after+time.Duration(n)*d.gap, 1, 0, say, to)
				i++
			}
			if swallowed != d.swallowed {
				t.Errorf("%s: after %v %d of %d swallowed, want %d", c.name, d.after, swallowed, d.n, d.swallowed)
			}
		}
	}
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			// In the captures two hellos of each peer are whole, which Chromium had it send at once; the rule is made as strict.
			for name, fires := range map[string]bool{"trojan": true, "reality": true, "https-proxy": true, "godwit": false,
				"direct-https-allowed": false, "ssh": false, "dns": false} {
				box := newBox(t, firewall.InPath, Set{Burst: []*Burst{{Over: 1}}}, withSeed(seed))
				res := firewalltest.Pass(box, recorded(t, name))
				if fired := len(res.Events) > 0; fired != fires || fired != (len(res.Dropped) > 0) {
					t.Errorf("%s: %v, %d dropped", name, res.Events, len(res.Dropped))
				}
			}
			for _, name := range ordinary {
				box := newBox(t, firewall.InPath, Set{Burst: []*Burst{{}}}, withSeed(seed))
				if res := firewalltest.Pass(box, recorded(t, name)); len(res.Events)+len(res.Dropped) > 0 {
					t.Errorf("%s: %v", name, res.Events)
				}
			}
		})
	})
}
