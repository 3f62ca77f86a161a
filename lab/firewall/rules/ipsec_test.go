package rules

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestIPsec(t *testing.T) {
	t.Parallel()
	set := func(signs ...string) func() Set {
		return func() Set { return Set{IPsec: []*IPsec{{Signs: signs, Then: cut}}} }
	}
	// strongSwan: the exchange at port 500, then at 4500 with the marker, then ESP in UDP.
	program := recorded(t, "ikev2")
	hits(t, set(), map[string][]firewalltest.Frame{"strongSwan": program})
	hits(t, set("nat-t"), map[string][]firewalltest.Frame{"strongSwan": program})
	hits(t, set("ikev2"), map[string][]firewalltest.Frame{"strongSwan, the packets at 4500 alone": program[2:]})
	if got := fired(t, set("ikev1", "esp", "ah")(), program); len(got) > 0 {
		t.Errorf("fired %q", got)
	}
	spares(t, set())

	t.Run("at any port", func(t *testing.T) {
		moved := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:8443", 0, said(t, program, 2)...)
		if got := fired(t, set()(), moved); len(got) != 1 {
			t.Errorf("fired %q", got)
		}
	})
	t.Run("crafted", func(t *testing.T) {
		ike1 := "\x11\x22\x33\x44\x55\x66\x77\x88" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x01\x10\x02\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x1c"
		frames := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:500", "203.0.113.20:500", 0, ">"+ike1)
		if got := fired(t, set("ikev1")(), frames); len(got) != 1 {
			t.Errorf("fired %q", got)
		}
		for proto, sign := range map[uint8]string{firewall.ESP: "esp", firewall.AH: "ah"} {
			box := newBox(t, firewall.InPath, Set{IPsec: []*IPsec{{Signs: []string{sign}, Aim: Aim{Ports: []int{500}}, Then: cut}}})
			res := firewalltest.Pass(box, bare(t, proto, 3))
			if len(res.Events) != 1 || len(res.Dropped) != 2 {
				t.Errorf("%s: fired %v, dropped %v", sign, res.Events, res.Dropped)
			}
		}
	})
}

func TestIPProtocol(t *testing.T) {
	t.Parallel()
	set := func() Set {
		return Set{IPProtocol: []*IPProtocol{{Then: Then{Drop: true, Block: scope(firewall.Address)}}}}
	}
	if res := firewalltest.Pass(newBox(t, firewall.InPath, set()), bare(t, firewall.GRE, 3)); len(res.Dropped) != 3 {
		t.Errorf("GRE: dropped %v", res.Dropped)
	}
	if res := firewalltest.Pass(newBox(t, firewall.InPath, set()), bare(t, firewall.ESP, 3)); len(res.Dropped) != 0 {
		t.Errorf("ESP: dropped %v", res.Dropped)
	}
	spares(t, set)
}

// bare makes n packets of a protocol without ports. They are crafted: what is in them nobody looks at.
func bare(t testing.TB, proto uint8, n int) (frames []firewalltest.Frame) {
	t.Helper()
	for range n {
		f := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:1", "203.0.113.20:1", 0, ">"+string(make([]byte, 60)))[0]
		const protocol = 14 + 9
		f.Data[protocol] = proto
		frames = append(frames, f)
	}
	return frames
}
