package hostnet

import (
	"net/netip"
	"strings"
	"testing"
)

func TestDesiredIsChecked(t *testing.T) {
	t.Parallel()
	for _, d := range []Desired{
		{Addrs: make([]netip.Prefix, 1)},
		{Addrs: []netip.Prefix{netip.MustParsePrefix("::ffff:192.0.2.1/128")}},
		{Direct: make([]netip.Prefix, 1)},
		{DNS: make([]netip.Addr, 1)},
		{MTU: -1},
	} {
		if d.check() == nil {
			t.Errorf("%+v is taken", d)
		}
	}
}

// prefixesOf reads prefixes that are separated by spaces.
func prefixesOf(text string) (prefixes []netip.Prefix) {
	for _, s := range strings.Fields(text) {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
	}
	return prefixes
}
