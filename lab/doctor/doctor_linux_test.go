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
	parallel = flag.Int("doctor-parallel", 16, "cells at once: they mostly wait")
)

// Each rule is named, and nothing else; two at once both; and nothing where there is nothing.
func TestCases(t *testing.T) {
	netnstest.Need(t)
	godwit := netnstest.Godwit(t)
	cases := slices.DeleteFunc(Cases(), func(c Case) bool { return !strings.Contains(c.Name, *only) })
	RunAll(t.Context(), cases, *seeds, *from, *parallel, godwit, func(r *Result) {
		t.Logf("%s in %.0f s", r, r.Took.Seconds())
		evidence := []byte("none")
		if r.Report != nil {
			evidence, _ = json.Marshal(r.Report)
		}
		for _, private := range []string{"198.51.100", "203.0.113", "192.0.2", ".example"} { // it is to be shown to others
			if strings.Contains(string(evidence), private) {
				t.Errorf("%s: the report has %q in it", r, private)
			}
		}
		if r.Right() {
			return
		}
		t.Errorf("%s\n%s%s", r, r.Rules, evidence)
	})
}
