package rules

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestWireGuard(t *testing.T) {
	t.Parallel()
	frames := recorded(t, "wireguard") // initiation, response, data: program
	set := func(r WireGuard) Set { return Set{WireGuard: []*WireGuard{&r}} }
	for _, c := range []struct {
		name   string
		rule   WireGuard
		passed int // frames before the first that is swallowed; -1 is all
	}{
		{"dropped at the initiation", WireGuard{At: "initiation", MAC2: true, Then: Then{Drop: true, Block: scope(firewall.Connection)}}, 0},
		{"blocked at the response", WireGuard{Then: cut}, 2},
		{"after two data packets", WireGuard{At: "data", Data: 2, Then: cut}, 5},
		{"first of its flow", WireGuard{First: true, Then: cut}, 2},
		{"used for a week", WireGuard{Used: Dur(7 * 24 * time.Hour), Then: cut}, -1},
		{"a variant's lengths", WireGuard{Lengths: [2]int{204, 100}, Then: cut}, -1},
	} {
		res := firewalltest.Pass(newBox(t, firewall.InPath, set(c.rule)), frames)
		passed := -1
		if len(res.Dropped) > 0 {
			passed = res.Dropped[0]
		}
		if passed != c.passed {
			t.Errorf("%s: %d frames passed, want %d; fired %v", c.name, passed, c.passed, res.Events)
		}
	}
	t.Run("junk before it", func(t *testing.T) {
		ends := [2]string{"192.0.2.10:40000", "203.0.113.20:51820"}
		texts := append([]string{">junk", ">more junk"}, said(t, frames, 5)...)
		junk := firewalltest.Conn(t, firewall.UDP, ends[0], ends[1], 0, texts...)
		if got := fired(t, set(WireGuard{First: true, Then: cut}), junk); len(got) > 0 {
			t.Errorf("fired %q", got)
		}
		if got := fired(t, set(WireGuard{Then: cut}), junk); len(got) != 1 {
			t.Errorf("fired %q", got)
		}
	})
	t.Run("an answer to somebody else", func(t *testing.T) {
		texts := said(t, frames, 2)
		texts[1] = texts[1][:1+8] + "nope" + texts[1][1+12:]
		other := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:51820", 0, texts...)
		if got := fired(t, set(WireGuard{Then: cut}), other); len(got) > 0 {
			t.Errorf("fired %q", got)
		}
	})
	t.Run("the server was used for a week", func(t *testing.T) {
		week := 7 * 24 * time.Hour
		box := newBox(t, firewall.InPath, set(WireGuard{Used: Dur(week), Then: Then{Block: scope(firewall.Endpoint), For: always(48 * time.Hour)}}))
		for day := range 7 {
			if res := firewalltest.Pass(box, firewalltest.Shift(frames, time.Duration(day)*24*time.Hour)); len(res.Dropped) > 0 {
				t.Fatalf("day %d: dropped %v", day, res.Dropped)
			}
		}
		if res := firewalltest.Pass(box, firewalltest.Shift(frames, week)); len(res.Dropped) != len(frames)-2 {
			t.Errorf("%d of %d dropped", len(res.Dropped), len(frames))
		}
	})
	spares(t, func() Set { return set(WireGuard{Then: cut}) }, "wireguard")
}
