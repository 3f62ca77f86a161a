//go:build linux

package suite

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

func TestSuites(t *testing.T) {
	t.Parallel()
	for _, name := range []string{Quick, Full, Transports, Page} {
		d, runs, err := Defaults(name)
		if err != nil || runs < 1 {
			t.Fatal(runs, err)
		}
		seen := make(map[string]bool)
		var total time.Duration
		for _, c := range Conditions(name, d) {
			if seen[c.Name] {
				t.Errorf("%s: two conditions %s", name, c.Name)
			}
			seen[c.Name] = true
			total += c.Estimate()
			if c.Net.CC == "" || !strings.Contains(c.Name, c.Net.CC) {
				t.Errorf("%s: %s does not say that it is %q", name, c.Name, c.Net.CC)
			}
			if (c.Link != nil) != c.Net.Linked {
				t.Errorf("%s: %s has a link model that its network does not wait for, or the other way round", name, c.Name)
			}
			if c.Link != nil {
				if err := linkmodel.Symmetric(*c.Link, 1).Validate(); err != nil {
					t.Errorf("%s: %s: %v", name, c.Name, err)
				}
			}
			ids := make(map[string]bool)
			for _, test := range c.Tests {
				if ids[test.ID] {
					t.Errorf("%s: %s: two tests %s", name, c.Name, test.ID)
				}
				ids[test.ID] = true
				specs := []load.Spec{test.Spec}
				if test.Slow != nil {
					specs = append(specs, *test.Slow)
				}
				for _, s := range specs {
					var back load.Spec
					fs := flag.NewFlagSet("", flag.ContinueOnError)
					back.Bind(fs)
					if err := fs.Parse(s.Args()); err != nil || back.Kind != s.Kind || back.Seconds != s.Seconds || back.Bytes != max(s.Bytes, back.Bytes) {
						t.Errorf("%s: %s %s: %+v read back as %+v: %v", name, c.Name, test.ID, s, back, err)
					}
				}
			}
		}
		// Seven peers, three runs: about ten minutes.
		if name == Quick && total*7*time.Duration(runs) > 12*time.Minute {
			t.Errorf("quick takes %v", total*7*time.Duration(runs))
		}
		t.Logf("%s: %d conditions, %v for seven peers and %d runs", name, len(seen), total*7*time.Duration(runs), runs)
	}
	if _, _, err := Defaults("nonesuch"); err == nil {
		t.Error("nonesuch is a suite")
	}
}

func TestBrief(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind    load.Kind
		metrics map[string]float64
		want    string
	}{
		{load.Down, map[string]float64{"mbps": 17420.3}, "17420 Mbit/s"},
		{load.ConnRate, map[string]float64{"per_s": 5033.2, "p50_ms": 3}, "5033/s"},
		{load.Fetch, map[string]float64{"p50_s": 0.684}, "0.68 s"},
		{load.UDP, map[string]float64{"up_lost": 1.25, "p50_ms": 4, "p99_ms": 31}, "1.2+0 % lost, p99 +31 ms"},
		{load.Keystroke, map[string]float64{"p50_ms": 200, "p99_ms": 250}, "p99 250 ms"},
		{load.ConnTime, map[string]float64{"p50_ms": 2.61}, "2.6 ms"},
	} {
		if got := brief(c.kind, c.metrics); got != c.want {
			t.Errorf("%s: %q, want %q", c.kind, got, c.want)
		}
	}
}
