package rules

import (
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// TestBulk has all rules of section A look at downloads: once a flow is decided, a packet of it costs no memory.
func TestBulk(t *testing.T) {
	names := Names{"banned.example"}
	drop := Then{Drop: true, Block: scope(firewall.Connection)}
	box := newBox(t, firewall.InPath, Set{
		AddressBlock: []*AddressBlock{{To: nets("203.0.113.128/25")}},
		DNSInjection: []*DNSInjection{{Names: names, Drop: true, TCP: &drop}},
		HTTPName:     []*HTTPName{{Names: names, Then: drop}},
		TLSName:      []*TLSName{{Names: names, Certificate: true, Then: drop}, {Names: names, Stateless: true, Then: drop}},
		ESNI:         []*ESNI{{Then: drop}},
		ECH:          []*ECH{{Names: names, Reassemble: true, Then: drop}},
		QUICName:     []*QUICName{{Names: names, Reassemble: true, Then: drop}},
		QUICVersion:  []*QUICVersion{{Then: Then{Block: scope(firewall.Connection), For: always(time.Nanosecond)}}},
	})
	for _, capture := range []string{"chromium-https-allowed", "direct-https-allowed", "quic-allowed", "http-allowed", "ssh"} {
		frames := recorded(t, capture)
		if res := firewalltest.Pass(box, frames); len(res.Dropped) > 0 {
			t.Errorf("%s: fired %v", capture, res.Fired())
		}
		last := frames[len(frames)-1]
		for _, f := range slices.Backward(frames) {
			if len(f.Data) > len(last.Data) {
				last = f
			}
		}
		passed := 0
		emit := func(bool, time.Duration, []byte) { passed++ }
		if n := testing.AllocsPerRun(100, func() {
			box.Frame(last.At, last.Outbound, last.Data, emit)
		}); n > 0 || passed != 101 {
			t.Errorf("%s: %v allocations for a packet; passed %d", capture, n, passed)
		}
	}
}
