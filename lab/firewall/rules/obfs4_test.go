package rules

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestObfs4(t *testing.T) {
	t.Parallel()
	set := func() Set { return Set{Obfs4: []*Obfs4{{Then: Then{Probe: true}}}} }
	hits(t, set, map[string][]firewalltest.Frame{"obfs4proxy": recorded(t, "obfs4")})
	spares(t, set)
	// What is known to be hit as well.
	for _, name := range []string{"shadowsocks", "shadowsocks-2022", "vmess"} {
		t.Logf("%s: fired %q", name, fired(t, set(), recorded(t, name)))
	}
}
