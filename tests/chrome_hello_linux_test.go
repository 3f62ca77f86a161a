package e2e

import (
	"fmt"
	"maps"
	"slices"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

// compareHellos says where the hellos of one differ from those of the other.
func compareHellos(browser, ours *visitors.Visitor, profile *chrome.Profile) (differences []string) {
	differ := func(format string, args ...any) {
		if d := "  ClientHello, " + fmt.Sprintf(format, args...); !slices.Contains(differences, d) {
			differences = append(differences, d)
		}
	}
	size := func(hello *clienthello.Hello) int { // without what is drawn
		if ech := hello.ECH(); ech != nil {
			return hello.Length - len(ech.Payload)
		}
		return hello.Length
	}
	first := browser.Hellos[0]
	want := first.Fields()
	for _, v := range []*visitors.Visitor{browser, ours} {
		for _, hello := range v.Hellos {
			if size(hello) != size(first) {
				differ("size without encrypted_client_hello's payload: %s sends %d, %s %d", browser.Name, size(first), v.Name, size(hello))
			}
			if again := visitors.FieldDifferences(want, hello.Fields(), browser.Name, v.Name); again != nil {
				for _, d := range again {
					differ("%s", d)
				}
				break
			}
		}
		for _, hello := range v.Hellos {
			ech, grease := hello.ECH(), profile.TLS.ECHGREASE
			if ech == nil {
				continue
			}
			payloads := grease.Payloads
			if hello.PSK() != nil && len(grease.ReturnPayloads) > 0 {
				payloads = grease.ReturnPayloads
			}
			if !slices.Contains(payloads, len(ech.Payload)) || !slices.Contains(grease.AEADs, ech.AEAD) {
				differ("encrypted_client_hello: the profile has AEADs %v and payloads of %v, %s sends %d and %d", grease.AEADs,
					payloads, v.Name, ech.AEAD, len(ech.Payload))
			}
		}
	}
	if a, b := browser.Orders(), ours.Orders(); len(a) > 1 != (len(b) > 1) || len(a) == 1 && !maps.Equal(a, b) {
		differ("order of extensions: of %s %d, of %s %d, or not the same one", browser.Name, len(a), ours.Name, len(b))
	}
	return differences
}
