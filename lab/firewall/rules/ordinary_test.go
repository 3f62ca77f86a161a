package rules

import (
	"errors"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// untouched passes what anybody does, and more captures, through a box of such rules, and nothing may come of it.
func untouched(t *testing.T, place firewall.Place, set func() Set, more ...string) {
	t.Helper()
	for _, capture := range append(more, ordinary...) {
		frames := recorded(t, capture)
		for seed := uint64(1); seed <= 20; seed++ {
			res := firewalltest.Pass(newBox(t, place, set(), withSeed(seed)), frames)
			if len(res.Events) > 0 || len(res.Dropped) > 0 || len(res.Forged) > 0 {
				t.Errorf("%s, seed %d: fired %v, dropped %v, forged %d", capture, seed, res.Fired(), res.Dropped, len(res.Forged))
			}
		}
	}
}

// named finds injectors.
func named[T any, P interface {
	*T
	UnmarshalText([]byte) error
}](t testing.TB, names ...string) (list []T) {
	t.Helper()
	for _, name := range names {
		var one T
		if err := P(&one).UnmarshalText([]byte(name)); err != nil {
			t.Fatal(err)
		}
		list = append(list, one)
	}
	return list
}

// wantField checks that a set is refused, by the field.
func wantField(t *testing.T, place firewall.Place, set Set, field string) {
	t.Helper()
	_, err := set.Named(place, Groups{})
	var wrong *FieldError
	if !errors.As(err, &wrong) || wrong.Field != field {
		t.Errorf("want field %q, got %v", field, err)
	}
}
