package rules

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestTor(t *testing.T) {
	t.Parallel()
	named := func() Set { return Set{Tor: []*Tor{{RandomName: true, Then: Then{Probe: true}}}} }
	program := replayed(t, "tor")
	hits(t, named, map[string][]firewalltest.Frame{"tor": program})
	spares(t, named)
	var suspects []firewall.Suspect
	fired(t, named(), program, func(c *firewall.Config) {
		c.Prober = func(s firewall.Suspect) { suspects = append(suspects, s) }
	})
	if len(suspects) != 1 || suspects[0].Server.String() != "203.0.113.20:9001" || len(suspects[0].Sent) < 200 {
		t.Errorf("suspects %+v", suspects)
	}

	// A list of suites is anybody's who has it: here it is the program's own of today.
	const today = "1301 1303 1302 c02b c02f cca9 cca8 c02c c030 c00a c009 c013 c014 009c 009d 002f 0035 00ff"
	listed := func() Set { return Set{Tor: []*Tor{{Ciphers: []string{today}, Then: cut}}} }
	hits(t, listed, map[string][]firewalltest.Frame{"tor": program})
	spares(t, listed)

	for name, want := range map[string]bool{
		"www.5g5jnfzamquza5ro5.com": true, "www.abcdefg2.com": true, "www.wikipedia.com": false, "www.abcdef2.com": false,
		"www.abcdefg8.com": false, "abcdefg2.com": false, "www.abcdefg2.net": false, "www.ABCDEFG2.com": false, "": false,
	} {
		if torName(name, 1) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
