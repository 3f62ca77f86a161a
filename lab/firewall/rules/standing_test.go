package rules

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// TestStanding has the rules that look at a flow for all its life look at downloads: a packet more costs no memory.
func TestStanding(t *testing.T) {
	block := Then{Block: scope(firewall.Connection)}
	all := Set{
		TLSInTLS:        []*TLSInTLS{{Model: "xue"}, {Model: "ndpi"}, {Model: "trojan"}},
		EncapsulatedTCP: []*EncapsulatedTCP{{Packets: 1 << 30}},
		RTTDifference:   []*RTTDifference{{}},
		FixedRate:       []*FixedRate{{Before: Dur(time.Hour)}},
		Accumulation:    []*Accumulation{{Flows: 30, Of: []string{"tls-in-tls"}, Volume: 1 << 40, Then: block}},
		Subscriber:      []*Subscriber{{Everyone: true, Large: 1 << 40, Then: block}},
		Throttle:        []*Throttle{{Names: Names{"*.example"}, Rate: 1 << 40, Burst: 1 << 40}},
		UDPPolice:       []*UDPPolice{{Rate: 1 << 40, Burst: 1 << 40, Heavy: 1 << 40}},
		Freeze:          []*Freeze{{Packets: 1 << 30, Then: block}},
		Burst:           []*Burst{{}},
		AllowProtocols:  []*AllowProtocols{{Allow: []string{"tls", "http", "quic", "ssh"}, UDP: true, Then: block}},
		AllowAddresses:  []*AllowAddresses{{Nets: Nets{{Prefix: netip.MustParsePrefix("198.51.100.0/24")}}, Names: Names{"allowed.example"}}},
		DNSTunnel:       []*DNSTunnel{{Name: 72, Then: block}},
		Storm:           []*Storm{{Start: Dur(time.Hour)}},
	}
	for _, capture := range []string{"chromium-https-allowed", "direct-https-allowed", "quic-allowed", "http-allowed"} {
		frames := recorded(t, capture)
		last := slices.MaxFunc(frames, func(a, b firewalltest.Frame) int { return len(a.Data) - len(b.Data) })
		cost := func(set Set) float64 {
			box := newBox(t, firewall.InPath, set)
			if res := firewalltest.Pass(box, frames); len(res.Dropped) > 0 {
				t.Errorf("%s: dropped %v, fired %v", capture, res.Dropped, res.Fired())
			}
			passed := 0
			emit := func(bool, time.Duration, []byte) { passed++ }
			return testing.AllocsPerRun(100, func() { box.Frame(frames[len(frames)-1].At, last.Outbound, last.Data, emit) })
		}
		if none, some := cost(Set{}), cost(all); some > none {
			t.Errorf("%s: %v allocations for a packet, %v without rules", capture, some, none)
		}
	}
}
