package lan

import (
	"net/netip"
	"testing"
)

func TestOn(t *testing.T) {
	for of, want := range map[string]string{
		"192.168.1.7/24":                "192.168.1.0/24",
		"10.1.2.3/8":                    "10.0.0.0/8",
		"10.1.2.3/7":                    "", // half of it is somebody's
		"203.0.113.9/24":                "",
		"0.0.0.0/0":                     "",
		"169.254.3.4/16":                "169.254.0.0/16",
		"fe80::1/64":                    "fe80::/10",
		"fd00:1::7/64":                  "fd00:1::/64",
		"2001:db8::7/64":                "",
		"100.64.0.9/10":                 "",
		"172.16.0.1/32":                 "172.16.0.1/32",
		"192.168.1.7/12":                "",
		"fdff:ffff:ffff:ffff::1/128":    "fdff:ffff:ffff:ffff::1/128",
		"2606:2800:220:1:248:1893::/48": "",
	} {
		p, ok := On(netip.MustParsePrefix(of))
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("%s: %v, %v, and it should be %q", of, p, ok, want)
		}
	}
}
