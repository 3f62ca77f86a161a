package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// recorded reads what real programs sent.
func recorded(t testing.TB, name string) []firewalltest.Frame {
	t.Helper()
	return firewalltest.Read(t, "../testdata/peers/"+name+".pcap")
}

// ordinary are the captures of what anybody does.
var ordinary = []string{"chromium-https-allowed", "direct-https-allowed", "quic-allowed", "http-allowed", "ssh", "dns"}

// seeds runs a test with as many seeds as draws want.
func seeds(t *testing.T, run func(t *testing.T, seed uint64)) {
	for seed := uint64(1); seed <= 20; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { run(t, seed) })
	}
}

func withSeed(seed uint64) func(*firewall.Config) {
	return func(c *firewall.Config) { c.Seed = seed }
}

// talk is a conversation of n packets of size bytes each, to and fro.
func talk(n, size int) (texts []string) {
	for i := range n {
		texts = append(texts, "><"[i%2:i%2+1]+strings.Repeat("x", size))
	}
	return texts
}

// spaced sets frames gap apart, as many as are.
func spaced(frames []firewalltest.Frame, gap time.Duration) []firewalltest.Frame {
	begin := frames[0].At
	for i := range frames {
		frames[i].At = begin + time.Duration(i)*gap
	}
	return frames
}
