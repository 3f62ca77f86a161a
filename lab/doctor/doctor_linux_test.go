package doctor

import (
	"encoding/json"
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var (
	seeds    = flag.Int("doctor-seeds", 1, "seeds for each case")
	from     = flag.Uint64("doctor-seed", 1, "the first one")
	only     = flag.String("doctor-case", "", "cases whose names have this in them")
	parallel = flag.Int("doctor-parallel", 32, "cells at once: they mostly wait")
)

// Each rule is named, and nothing else; two at once both; and nothing where there is nothing. On a machine with much else to do
// connections are slow and packets late, as on a bad network: what was not right is tried again, few at once.
func TestCases(t *testing.T) {
	netnstest.Need(t)
	godwit := netnstest.Godwit(t)
	cases := slices.DeleteFunc(Cases(), func(c Case) bool { return !strings.Contains(c.Name, *only) })
	wrong := make(map[string]*Result)
	tell := func(r *Result) {
		t.Logf("%s in %.0f s", r, r.Took.Seconds())
		if r.Right() {
			delete(wrong, r.Case)
		} else {
			wrong[r.Case] = r
		}
		if r.Report == nil {
			return
		}
		evidence, err := json.Marshal(r.Report)
		if err != nil {
			t.Error(err)
		}
		for _, private := range []string{"198.51.100", "203.0.113", "192.0.2", ".example"} { // it is to be shown to others
			if strings.Contains(string(evidence), private) {
				t.Errorf("%s: the report has %q in it", r, private)
			}
		}
	}
	RunAll(t.Context(), cases, *seeds, *from, *parallel, godwit, tell)
	for try := range uint64(2) {
		again := slices.DeleteFunc(slices.Clone(cases), func(c Case) bool { return wrong[c.Name] == nil })
		RunAll(t.Context(), again, 1, *from+100+try, 4, godwit, tell)
	}
	for _, r := range wrong {
		evidence, _ := json.Marshal(r.Report)
		t.Errorf("%s, three times\n%s%s", r, r.Rules, evidence)
	}
}
