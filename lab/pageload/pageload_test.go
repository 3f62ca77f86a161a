package pageload

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/shape"
)

var (
	loads = flag.Int("loads", 24, "page loads to train with, and as many to test with")
	knows = flag.Bool("neighbours", false, "add a detector that is trained on the links themselves")
	show  = flag.Int("show", 0, "of each way across, print the bursts of so many connections")
)

// bound is the share of direct connections that may be found wrongly: what one firewall was seen to tolerate.
const bound = 0.006

// farAway is how much further some sites are from the gateway, one way.
const farAway = 80 * time.Millisecond

// enough page loads are so many that shares of them say something.
const enough = 200

// set is some visits by one way: all connections, and which visit each is of.
type set struct {
	samples []sample
	visit   []int
	browser []browser
	visits  []seen
}

// share is that of visits with a connection that is found.
func (s *set) share(found func(*sample) bool) float64 {
	hit := map[int]bool{}
	for i := range s.samples {
		if found(&s.samples[i]) {
			hit[s.visit[i]] = true
		}
	}
	return float64(len(hit)) / float64(len(s.visits))
}

// collect loads pages by one way. Sites and days of training and testing have nothing in common.
func collect(t *testing.T, way func(*visit, *seen) (dialer, func()), far time.Duration, sites []*site, days, n, skip int) *set {
	t.Helper()
	c := &set{}
	for i := range n {
		v := newVisit(sites[i%len(sites)], days+i%5, skip+i)
		v.far = far
		var got seen
		synctest.Test(t, func(*testing.T) { got = v.run(way) })
		if !got.fine {
			t.Errorf("visit %d: not all came", i)
		}
		for _, tp := range got.taps {
			c.samples = append(c.samples, judge(t, tp))
			c.visit = append(c.visit, i)
			c.browser = append(c.browser, v.browser)
		}
		got.taps = nil
		c.visits = append(c.visits, got)
	}
	return c
}

// ways are the ways across, the control second.
var ways = []struct {
	name string
	way  func(*visit, *seen) (dialer, func())
}{
	{"direct", direct},
	{"plain tunnel", plainly},
	{"off", godwit(shape.Off)},
	{"low", godwit(shape.Low)},
	{"high", godwit(shape.High)},
}

func TestPageLoads(t *testing.T) {
	train, test, distant := make([]*set, len(ways)), make([]*set, len(ways)), make([]*set, len(ways))
	sites := max(8, *loads/5)
	t.Run("load", func(t *testing.T) {
		var old, fresh []*site
		for i := range sites {
			old, fresh = append(old, newSite(i)), append(fresh, newSite(100_000+i))
		}
		for i, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				train[i] = collect(t, w.way, 0, old, 0, *loads, 0)
				test[i] = collect(t, w.way, 0, fresh, 100, *loads, 1_000_000)
				if i > 0 {
					distant[i] = collect(t, w.way, farAway, fresh, 100, max(*loads/5, 12), 2_000_000)
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	control := map[browser][]sample{}
	for i, s := range train[1].samples {
		control[train[1].browser[i]] = append(control[train[1].browser[i]], s)
	}
	trained := trainXue(train[0].samples, control)

	var out strings.Builder
	fmt.Fprintf(&out, "%d page loads to train with, %d to test with; direct: %d and %d connections\n\n", *loads, *loads,
		len(train[0].samples), len(test[0].samples))
	fmt.Fprintf(&out, "| detector | at | direct, wrongly | plain tunnel | off | low | high |\n|---|---|---|---|---|---|---|\n")
	row := func(name string, v *verdict, from []*set) {
		fmt.Fprintf(&out, "| %s | %s | %.2f %% | %.0f %% |", name, v.how, 100*share(test[0].samples, v.found),
			100*share(from[1].samples, v.found))
		for i := 2; i < len(ways); i++ {
			fmt.Fprintf(&out, " %.1f %% |", 100*from[i].share(v.found))
		}
		out.WriteString("\n")
	}
	var chosen []*verdict
	for _, d := range detectors(train[0].samples, trained) {
		if v := d.choose(train[0].samples, train[1].samples, bound); v != nil {
			chosen = append(chosen, v)
			from := test
			if d.name == roundTrips {
				from = distant // where the round trip to the site is one that can be seen
			}
			row(d.name, v, from)
			if *loads < enough {
				continue
			}
			if c := share(from[1].samples, v.found); c < 0.3 {
				t.Errorf("%s finds %.0f %% of plain tunnels: it sees nothing", d.name, 100*c)
			}
			if low, high := from[3].share(v.found), from[4].share(v.found); low > 0.15 || high > 0.05 {
				t.Errorf("%s finds %.1f %% at low, %.1f %% at high", d.name, 100*low, 100*high)
			}
		} else {
			fmt.Fprintf(&out, "| %s | finds too many direct ones at every threshold | | | | | |\n", d.name)
		}
	}
	row("any of these", &verdict{"", func(s *sample) bool {
		return slices.ContainsFunc(chosen, func(v *verdict) bool { return v.found(s) })
	}}, test)
	for i := 2; i < len(ways) && *knows; i++ {
		half := train[0].samples[:len(train[0].samples)/2]
		k := &neighbours{}
		k.learn(train[0].samples[len(half):], false)
		k.learn(train[i].samples, true)
		d := detector{"neighbours, trained on " + ways[i].name, above(half, k.score)}
		if v := d.choose(half, train[i].samples, bound); v != nil {
			row(d.name, v, test)
		}
	}
	out.WriteString("\n| | direct | plain tunnel | off | low | high |\n|---|---|---|---|---|---|\n| bytes, against off |")
	total := func(s *set) (n int) {
		for _, v := range s.visits {
			n += v.bytes
		}
		return n
	}
	for i := range ways {
		fmt.Fprintf(&out, " %+.1f %% |", 100*(float64(total(test[i]))/float64(total(test[2]))-1))
	}
	if low, high := total(test[3]), total(test[4]); low > total(test[2])*110/100 || high > total(test[2])*140/100 {
		t.Errorf("low costs %d bytes and high %d, off %d", low, high, total(test[2]))
	}
	fmt.Fprintf(&out, "\n| bytes of a page, median |")
	for i := range ways {
		fmt.Fprintf(&out, " %d |", median(test[i].visits, func(s seen) int { return s.bytes }))
	}
	fmt.Fprintf(&out, "\n| time of a page, median |")
	for i := range ways {
		fmt.Fprintf(&out, " %v |", median(test[i].visits, func(s seen) time.Duration { return s.took }).Round(time.Millisecond))
	}
	fmt.Fprintf(&out, "\n| later than off, median and worst |")
	for i := range ways {
		var later []time.Duration
		for j := range test[i].visits {
			later = append(later, test[i].visits[j].took-test[2].visits[j].took)
		}
		slices.Sort(later)
		fmt.Fprintf(&out, " %v, %v |", later[len(later)/2].Round(time.Millisecond), later[len(later)-1].Round(time.Millisecond))
	}
	t.Logf("\n%s\n", out.String())
	for _, m := range trained.models {
		t.Logf("bursts of a handshake in a plain tunnel: %.0f, give or take %.0f", m.mean, m.deviation)
	}
	for i, w := range ways {
		for j := range min(*show, len(test[i].samples)) {
			s := &test[i].samples[j]
			b, up := s.flow.bursts()
			fmt.Fprintf(os.Stderr, "%-12s b%d ndpi %v ratio %.2f distance %.2f trained %.2f rtt %.1f %s  ", w.name, test[i].browser[j], len(s.ndpi), s.ratio, s.distance, trained.near(s), s.rtt, letters(s.flow.after, 40))
			for k := range b {
				fmt.Fprintf(os.Stderr, " %s%.0f", map[bool]string{true: ">", false: "<"}[up[k]], b[k])
			}
			fmt.Fprintln(os.Stderr)
		}
	}
}

func median[T int | time.Duration](all []seen, of func(seen) T) T {
	var v []T
	for _, s := range all {
		v = append(v, of(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}
