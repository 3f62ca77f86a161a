package rules

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// The captures in testdata/models are of single connections of programs, as lab/peer records them, but longer and only
// headers, and at a site with a chain of three certificates: eight connections each of curl and Chromium through a peer,
// twelve of curl and six of Chromium without one.
func TestTLSInTLS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		capture          string
		of               int
		xue, ndpi, horse int // found
	}{
		{"trojan", 8, 7, 8, 8},
		{"shadowsocks", 8, 7, 8, 0},
		{"vmess", 8, 6, 8, 0},
		{"https-proxy", 8, 5, 5, 0},
		{"reality", 8, 2, 8, 0},
		{"godwit", 1, 0, 0, 0},
		{"curl", 12, 0, 2, 0},
		{"chromium", 6, 0, 0, 0},
	} {
		frames := firewalltest.Read(t, "../testdata/models/"+c.capture+".pcap")
		for model, want := range map[string]int{"xue": c.xue, "ndpi": c.ndpi, "trojan": c.horse} {
			box := newBox(t, firewall.OnPath, Set{TLSInTLS: []*TLSInTLS{{Model: model, Scores: true}}})
			res := firewalltest.Pass(box, frames)
			if found := len(res.Fired()); found != want || len(res.Events) != c.of {
				t.Errorf("%s: %s finds %d of %d, want %d of %d", c.capture, model, found, len(res.Events), want, c.of)
			}
			for _, e := range res.Events {
				if !strings.Contains(e.Detail, "sizes >") {
					t.Errorf("no score in %q", e.Detail)
				}
			}
		}
	}
	t.Run("acts", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for name, of := range map[string]int{"trojan": 8, "chromium": 0, "curl": 0} {
				rule := &TLSInTLS{Model: "trojan", Then: &Then{Block: scope(firewall.Connection)}}
				box := newBox(t, firewall.InPath, Set{TLSInTLS: []*TLSInTLS{rule}}, withSeed(seed))
				res := firewalltest.Pass(box, firewalltest.Read(t, "../testdata/models/"+name+".pcap"))
				if len(res.Fired()) != of || (len(res.Dropped) > 0) != (of > 0) {
					t.Errorf("%s: %d found, %d dropped", name, len(res.Fired()), len(res.Dropped))
				}
			}
			for _, name := range ordinary {
				rules := []*TLSInTLS{{Model: "xue"}, {Model: "trojan"}}
				res := firewalltest.Pass(newBox(t, firewall.OnPath, Set{TLSInTLS: rules}, withSeed(seed)), recorded(t, name))
				if len(res.Events) > 0 {
					t.Errorf("%s: %v", name, res.Events)
				}
			}
		})
	})
	t.Run("limit", func(t *testing.T) {
		frames := firewalltest.Read(t, "../testdata/models/trojan.pcap")
		for limit, all := range map[float64]bool{0: true, 0.01: false} {
			box := newBox(t, firewall.OnPath, Set{TLSInTLS: []*TLSInTLS{{Model: "ndpi", Limit: limit}}})
			if n := len(firewalltest.Pass(box, frames).Fired()); all != (n == 8) || !all && n != 0 {
				t.Errorf("limit %v: %d found", limit, n)
			}
		}
		wantField(t, firewall.OnPath, Set{TLSInTLS: []*TLSInTLS{{Model: "xue", Limit: 1}}}, "limit")
	})
	t.Run("least", func(t *testing.T) {
		frames := firewalltest.Read(t, "../testdata/models/trojan.pcap")
		for least, n := range map[int]int{0: 8, 100_000: 0} {
			box := newBox(t, firewall.OnPath, Set{TLSInTLS: []*TLSInTLS{{Model: "trojan", Least: least}}})
			if got := len(firewalltest.Pass(box, frames).Fired()); got != n {
				t.Errorf("least %d: %d found", least, got)
			}
		}
		wantField(t, firewall.OnPath, Set{TLSInTLS: []*TLSInTLS{{Model: "xue", Least: 1}}}, "least")
	})
	t.Run("pre-filter", func(t *testing.T) {
		box := newBox(t, firewall.OnPath, Set{TLSInTLS: []*TLSInTLS{{Model: "xue", Prefilter: true, Scores: true}}})
		texts := []string{">" + hello(t, "allowed.example"), "<" + hello(t, "allowed.example"), ">\x14\x03\x03\x00\x01\x01",
			">\x17\x03\x03" + strings.Repeat("r", 100)}
		for range 20 {
			texts = append(texts, "<"+strings.Repeat("d", 1400))
		}
		res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:443", 0, texts...))
		if len(res.Events) != 1 || !res.Events[0].Cleared || !strings.Contains(res.Events[0].Detail, "pre-filter") {
			t.Errorf("%v", res.Events)
		}
	})
}

func TestFlight(t *testing.T) {
	t.Parallel()
	w := &flight{rtt: 50 * ms, packets: []flightPacket{{0, true, 600}, {1 * ms, true, 100}, {50 * ms, false, 1400}, {51 * ms, false, 20},
		{300 * ms, false, 1000}, {301 * ms, true, 2000}}}
	if got := w.sizes(); got != ">700 <2420 >2000" {
		t.Error(got)
	}
	if got := w.bursts(40, true); len(got) != 4 || got[0].bytes != 620 || got[1].bytes != 1360 || got[2].bytes != 960 {
		t.Error(got)
	}
	if got := w.letters(0); got != "baDACd" {
		t.Error(got)
	}
}
