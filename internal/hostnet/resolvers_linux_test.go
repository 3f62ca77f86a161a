package hostnet

import (
	"fmt"
	"testing"
)

func TestNameservers(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "[]",
		"# nameserver 192.0.2.1\n": "[]",
		"search a.example\nnameserver 192.0.2.53\noptions edns0\nnameserver\t2001:db8::53\nnameserver 192.0.2.53": "[192.0.2.53 2001:db8::53]",
		"nameserver example\nnameserver fe80::1%eth0\n":                                                           "[fe80::1%eth0]",
	} {
		if got := fmt.Sprint(nameservers([]byte(text))); got != want {
			t.Errorf("%q: %s, and it should be %s", text, got, want)
		}
	}
}
