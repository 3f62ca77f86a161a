package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestFixedRate(t *testing.T) {
	t.Parallel()
	// A download of 1000 bytes a millisecond for 10 s, from slows on only each share-th packet.
	download := func(slows time.Duration, share int) (frames []firewalltest.Frame) {
		var texts []string
		for range 10_000 {
			texts = append(texts, "<"+strings.Repeat("x", 972))
		}
		all := firewalltest.Conn(t, firewall.UDP, "192.0.2.1:40000", "198.51.100.1:443", 0, append([]string{">x"}, texts...)...)
		for i, f := range all {
			if f.At < slows || i%share == 0 {
				frames = append(frames, f)
			}
		}
		return frames
	}
	same, half := download(0, 1), download(4*time.Second, 2)
	seeds(t, func(t *testing.T, seed uint64) {
		for _, c := range []struct {
			name           string
			frames         []firewalltest.Frame
			rule           FixedRate
			found, cleared bool
		}{
			{"the same rate", same, FixedRate{}, true, false},
			{"half of it", half, FixedRate{}, false, true},
			{"not fast enough", same, FixedRate{Fast: 20_000_000}, false, false},
		} {
			c.rule.Scores = true
			res := firewalltest.Pass(newBox(t, firewall.InPath, Set{FixedRate: []*FixedRate{&c.rule}}, withSeed(seed)), c.frames)
			if found := len(res.Fired()) > 0; found != c.found || len(res.Events) > 0 != (c.found || c.cleared) {
				t.Errorf("%s: %v", c.name, res.Events)
			}
			if tested := c.found || c.cleared; tested != (len(res.Dropped) > 0) {
				t.Errorf("%s: %d dropped", c.name, len(res.Dropped))
			}
		}
		for _, name := range ordinary { // short, and slow
			res := firewalltest.Pass(newBox(t, firewall.InPath, Set{FixedRate: []*FixedRate{{}}}, withSeed(seed)), recorded(t, name))
			if len(res.Events)+len(res.Dropped) > 0 {
				t.Errorf("%s: %v", name, res.Events)
			}
		}
	})
}
