package hostnet

import (
	"net/netip"
	"strings"
	"testing"
)

func TestIntervals(t *testing.T) {
	t.Parallel()
	tests := []struct{ prefixes, want string }{
		{"", ""},
		{"192.0.2.1/24", "192.0.2.0-192.0.2.255"},
		{"192.0.2.0/25 192.0.2.64/26 192.0.2.128/25", "192.0.2.0-192.0.2.255"},
		{"198.51.100.0/24 192.0.2.0/24", "192.0.2.0-192.0.2.255 198.51.100.0-198.51.100.255"},
		{"0.0.0.0/0 10.0.0.0/8 255.255.255.255/32", "0.0.0.0-255.255.255.255"},
		{"255.255.255.255/32 ::/128 ::1/128", "255.255.255.255-255.255.255.255 ::-::1"},
		{"3fff::/20 3fff:1000::/20", "3fff::-3fff:1fff:ffff:ffff:ffff:ffff:ffff:ffff"},
	}
	for _, tt := range tests {
		var got []string
		for _, i := range intervals(prefixesOf(tt.prefixes)) {
			got = append(got, i.first.String()+"-"+i.last.String())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.prefixes, s, tt.want)
		}
	}
}

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
