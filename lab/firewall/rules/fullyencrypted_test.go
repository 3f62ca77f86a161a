package rules

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// TestFullyEncryptedPrograms has real programs found, each connection with the probability that was measured.
func TestFullyEncryptedPrograms(t *testing.T) {
	t.Parallel()
	always := func() Set { return Set{FullyEncrypted: []*FullyEncrypted{{Then: cut}}} }
	programs := map[string][]firewalltest.Frame{
		"shadowsocks": recorded(t, "shadowsocks"), "shadowsocks-cfb": recorded(t, "shadowsocks-cfb"),
		"shadowsocks-2022": recorded(t, "shadowsocks-2022"), "obfs4": recorded(t, "obfs4"), "vmess": recorded(t, "vmess"),
		"shadowsocks with curl": own(t, "shadowsocks-curl"),
	}
	hits(t, always, programs)
	spares(t, always)
	sampled := Set{FullyEncrypted: []*FullyEncrypted{{Chance: 0.263, Then: cut}}}
	found, all := 0, 0
	seeds(t, func(t *testing.T, seed uint64) {
		for _, frames := range programs {
			found += len(fired(t, sampled, frames, withSeed(seed)))
			all += len(fired(t, always(), frames))
		}
		for _, name := range ordinary {
			if got := fired(t, sampled, recorded(t, name), withSeed(seed)); len(got) > 0 {
				t.Errorf("%s is hit: %q", name, got)
			}
		}
	})
	if share := float64(found) / float64(all); share < 0.16 || share > 0.37 {
		t.Errorf("%d of %d found", found, all)
	}
}
