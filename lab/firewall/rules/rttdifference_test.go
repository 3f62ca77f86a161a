package rules

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// exchanges is a connection of questions, acknowledged after transport and answered after application.
func exchanges(t *testing.T, n int, transport, application time.Duration) []firewalltest.Frame {
	t.Helper()
	var texts []string
	for range n {
		texts = append(texts, ">question", "<", "<answer", ">")
	}
	frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:443", 0, texts...)
	at := 3 * ms
	for i := range n {
		for j, after := range []time.Duration{0, transport, application, application} {
			frames[3+4*i+j].At = at + after
		}
		at += application + 100*ms
	}
	return frames
}

func TestRTTDifference(t *testing.T) {
	t.Parallel()
	seeds(t, func(t *testing.T, seed uint64) {
		for _, c := range []struct {
			name                   string
			n                      int
			transport, application time.Duration
			found, cleared         bool
		}{
			{"a server that answers at once", 5, 50 * ms, 55 * ms, false, true},
			{"a proxy, 50 ms before the server", 5, 50 * ms, 105 * ms, true, false},
			{"too few exchanges", 4, 50 * ms, 105 * ms, false, false},
		} {
			box := newBox(t, firewall.OnPath, Set{RTTDifference: []*RTTDifference{{Scores: true}}}, withSeed(seed))
			res := firewalltest.Pass(box, exchanges(t, c.n, c.transport, c.application))
			if found := len(res.Fired()) > 0; found != c.found || len(res.Events) > 0 != (c.found || c.cleared) {
				t.Errorf("%s: %v", c.name, res.Events)
			}
		}
		for _, name := range ordinary {
			box := newBox(t, firewall.OnPath, Set{RTTDifference: []*RTTDifference{{}}}, withSeed(seed))
			if res := firewalltest.Pass(box, recorded(t, name)); len(res.Events) > 0 {
				t.Errorf("%s: %v", name, res.Events)
			}
		}
	})
}
