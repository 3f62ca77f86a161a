package rules

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestEncryptedSizes(t *testing.T) {
	t.Parallel()
	set := func() Set { return Set{EncryptedSizes: []*EncryptedSizes{{Then: cut}}} }
	hits(t, set, map[string][]firewalltest.Frame{
		"shadowsocks": recorded(t, "shadowsocks"), "shadowsocks-2022": recorded(t, "shadowsocks-2022"), "vmess": recorded(t, "vmess"),
	})
	spares(t, set)

	large, small := strings.Repeat("\x81", 411), strings.Repeat("\x81", 410)
	for _, c := range []struct {
		name  string
		rule  EncryptedSizes
		texts []string
		hit   bool
	}{
		{"three and an answer", EncryptedSizes{}, []string{">" + large, "<x", ">" + large, ">" + large}, true},
		{"no answer", EncryptedSizes{}, []string{">" + large, ">" + large, ">" + large}, false},
		{"one is smaller", EncryptedSizes{}, []string{">" + large, "<x", ">" + small, ">" + large}, false},
		{"a smaller one between", EncryptedSizes{}, []string{">" + large, "<x", ">" + small, ">" + large, ">" + large}, true},
		{"in a row", EncryptedSizes{Row: true}, []string{">" + large, "<x", ">" + small, ">" + large, ">" + large}, false},
		{"the first of another size", EncryptedSizes{First: [2]int{500, 600}}, []string{">" + large, "<x", ">" + large, ">" + large}, false},
		{"a small answer", EncryptedSizes{ServerLeast: 100}, []string{">" + large, "<x", ">" + large, ">" + large}, false},
		{"too late", EncryptedSizes{Within: 3}, []string{">" + large, "<x", ">" + large, ">" + large}, false},
		{"TLS", EncryptedSizes{}, []string{">" + hello(t, "a.example"), "<x", ">" + large, ">" + large, ">" + large}, false},
		{"TLS, not spared", EncryptedSizes{Known: true}, []string{">" + hello(t, "a.example"), "<x", ">" + large, ">" + large, ">" + large}, true},
	} {
		c.rule.Then = cut
		got := fired(t, Set{EncryptedSizes: []*EncryptedSizes{&c.rule}},
			firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "203.0.113.20:443", 0, c.texts...))
		if (len(got) > 0) != c.hit {
			t.Errorf("%s: fired %q", c.name, got)
		}
	}
}
