package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// compareHellos says where the hellos of one differ from those of the other.
func compareHellos(browser, ours *visitor, profile *chrome.Profile) (differences []string) {
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
	first := browser.hellos[0]
	want := first.Fields()
	for _, v := range []*visitor{browser, ours} {
		for _, hello := range v.hellos {
			if size(hello) != size(first) {
				differ("size without encrypted_client_hello's payload: %s sends %d, %s %d", browser.name, size(first), v.name, size(hello))
			}
			if again := fieldDifferences(want, hello.Fields(), browser.name, v.name); again != nil {
				for _, d := range again {
					differ("%s", d)
				}
				break
			}
		}
		for _, hello := range v.hellos {
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
					payloads, v.name, ech.AEAD, len(ech.Payload))
			}
		}
	}
	if a, b := orders(browser), orders(ours); len(a) > 1 != (len(b) > 1) || len(a) == 1 && !maps.Equal(a, b) {
		differ("order of extensions: of %s %d, of %s %d, or not the same one", browser.name, len(a), ours.name, len(b))
	}
	return differences
}

// orders are the different orders of extensions in a visitor's hellos.
func orders(v *visitor) map[string]bool {
	found := map[string]bool{}
	for _, hello := range v.hellos {
		found[clienthello.Codes(hello.Order())] = true
	}
	return found
}

// fieldDifferences says where two descriptions differ.
func fieldDifferences(want, got []clienthello.Field, who, other string) (differences []string) {
	value := func(fields []clienthello.Field, name string) string {
		for _, f := range fields {
			if f.Name == name {
				return strconv.Quote(f.Value)
			}
		}
		return "none"
	}
	var names []string
	for _, f := range slices.Concat(want, got) {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		if a, b := value(want, name), value(got, name); a != b {
			differences = append(differences, fmt.Sprintf("%s:\n    %s sends %s\n    %s sends %s", name, who, a, other, b))
		}
	}
	return differences
}
