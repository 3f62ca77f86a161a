package dnsmessage

import "testing"

func TestInside(t *testing.T) {
	for name, want := range map[string]bool{
		"example.com": false, "local.example": false, "notlocal": true, "printer": true, "localhost": true,
		"a.localhost": true, "printer.local": true, "metadata.google.internal": true, "router.lan": true,
		"nas.home.arpa": true, "home.arpa": true, "in-addr.arpa": false, "myhome.arpa": false, "x.corp": true,
	} {
		if got := Inside(name); got != want {
			t.Errorf("Inside(%q) = %v", name, got)
		}
	}
}
