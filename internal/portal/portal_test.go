package portal

import (
	"slices"
	"testing"
)

func TestGate(t *testing.T) {
	for _, c := range []struct {
		what, location, body, url string
		pass, refuse              []string
	}{
		{"a redirect", "http://login.hotel.example/?mac=02", "", "http://login.hotel.example/?mac=02",
			[]string{"login.hotel.example", "LOGIN.hotel.example.", "cdn.hotel.example", "hotel.example"},
			[]string{"other.example", "nothotel.example", "example"}},
		{"a redirect to an address", "https://203.0.113.9:8443/in", "", "https://203.0.113.9:8443/in",
			[]string{"203.0.113.9"}, []string{"203.0.113.8", "113.9"}},
		{"one that stays", "/login", "", "http://nmcheck.gnome.org/login", []string{"nmcheck.gnome.org"}, []string{"a.example"}},
		{"a script", "", `<script>window.location="http://fgt.example.co.uk:1000/auth?x";</script>`, "http://nmcheck.gnome.org/check_network_status.txt",
			[]string{"fgt.example.co.uk", "www.example.co.uk"}, []string{"other.co.uk"}},
		{"one that is no address", "file:///etc/passwd", "", "http://nmcheck.gnome.org/check_network_status.txt", nil, []string{"etc"}},
	} {
		p := read("http://"+checkHost+checkPath, c.location, []byte(c.body))
		if p.URL != c.url {
			t.Errorf("%s: leads to %q", c.what, p.URL)
		}
		var g Gate
		g.Set(p, false)
		for _, h := range c.pass {
			if !g.Pass(h) {
				t.Errorf("%s: %q is refused", c.what, h)
			}
		}
		for _, h := range c.refuse {
			if g.Pass(h) {
				t.Errorf("%s: %q passes", c.what, h)
			}
		}
		if got := g.Refused(); !slices.Equal(got, c.refuse) {
			t.Errorf("%s: refused %q", c.what, got)
		}
		for addr, want := range map[string]bool{"10.1.1.1": true, "::ffff:10.1.1.1": true, "fe80::1": true, "100.64.0.1": true,
			"127.0.0.1": false, "0.0.0.0": false, "203.0.113.77": false} {
			if g.Pass(addr) != want {
				t.Errorf("%s: a host at %s passes: %v", c.what, addr, !want)
			}
		}
		if g.Set(p, true); !g.Pass("elsewhere.example") {
			t.Errorf("%s: an open gate is shut", c.what)
		}
	}
}
