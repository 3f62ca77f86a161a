package dnsclient

import (
	"errors"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.53": "192.0.2.53:53", "192.0.2.53:5353": "192.0.2.53:5353", "2001:db8::53": "[2001:db8::53]:53",
		"[2001:db8::53]:53": "[2001:db8::53]:53", "tcp://192.0.2.53": "tcp://192.0.2.53:53", "tls://dns.example": "tls://dns.example:853",
		"https://dns.example/dns-query": "https://dns.example/dns-query", "https://dns.example": "https://dns.example/dns-query",
		"https://192.0.2.53:8443/q": "https://192.0.2.53:8443/q",
	} {
		r, err := Parse(in)
		if err != nil || r.String() != want {
			t.Errorf("%q is %q, %v", in, r, err)
		} else if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("%q is %q again, %v", r, again, err)
		}
	}
	for _, in := range []string{"", "dns.example", "udp://192.0.2.53", "tls://", "tls://a/b", "https://u@dns.example/", "tcp://[::1"} {
		if r, err := Parse(in); err == nil {
			t.Errorf("%q is %q", in, r)
		}
	}
}

func TestSystem(t *testing.T) {
	all, err := System()
	var reason transport.Reason
	if err != nil && !errors.As(err, &reason) {
		t.Errorf("an error that may name an address: %v", err)
	}
	for _, r := range all {
		if _, err := Parse(r.String()); err != nil {
			t.Error(err)
		}
	}
}
