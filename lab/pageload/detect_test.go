package pageload

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/rules"
)

// most is how many packets of a connection rules are shown: their models look at 25 with a payload, and one at five
// questions and answers.
const most = 150

// sample is one connection as detectors know it: by what rules and our own models say of it.
type sample struct {
	ratio, distance float64          // rules' xue
	ndpi            map[float64]bool // found with that limit
	trojan          map[int]bool     // found with at least so many bytes
	rtt             float64          // difference of round trips, in ms; NaN if it was not measured
	flow            opening
}

var (
	ndpiLimits   = []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2}
	trojanLeasts = []int{0, 800, 1600, 2000}
)

// judge shows a connection to the rules.
func judge(t testing.TB, c *tap) (s sample) {
	t.Helper()
	s = sample{ratio: math.NaN(), distance: math.NaN(), rtt: math.NaN(), ndpi: map[float64]bool{}, trojan: map[int]bool{}}
	named := []firewall.Named{
		{Name: "xue", Rule: &rules.TLSInTLS{Model: "xue", Scores: true}},
		{Name: "rtt", Rule: &rules.RTTDifference{Scores: true}},
	}
	for _, l := range ndpiLimits {
		named = append(named, firewall.Named{Name: fmt.Sprint("ndpi ", l), Rule: &rules.TLSInTLS{Model: "ndpi", Limit: l}})
	}
	for _, l := range trojanLeasts {
		named = append(named, firewall.Named{Name: fmt.Sprint("trojan ", l), Rule: &rules.TLSInTLS{Model: "trojan", Least: l}})
	}
	box, err := firewall.New(firewall.Config{Name: "box", Place: firewall.OnPath, Rules: named})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.frames(40000, most) {
		box.Frame(f.at, f.up, f.data, func(bool, time.Duration, []byte) {})
	}
	for _, e := range box.Events() {
		var limit float64
		var least int
		switch {
		case e.Rule == "xue":
			fmt.Sscanf(strings.ReplaceAll(e.Detail, ",", " "), "tls-in-tls xue: ratio %f of 0.80 distance %g", &s.ratio, &s.distance)
		case e.Rule == "rtt":
			fmt.Sscanf(e.Detail, "rtt-difference: %f ms", &s.rtt)
		case scan(e.Rule, "ndpi %g", &limit):
			s.ndpi[limit] = true
		case scan(e.Rule, "trojan %d", &least):
			s.trojan[least] = true
		}
	}
	s.flow = newOpening(c)
	return s
}

func scan(text, format string, into any) bool {
	n, _ := fmt.Sscanf(text, format, into)
	return n == 1
}

// opening is the beginning of a connection: what comes after the outer handshake, and what from the first byte on.
type opening struct {
	all, after []packet
	later      []packet // from the second burst of the client on that is no small one
	rtt        time.Duration
}

const flightPackets = 25

func newOpening(c *tap) opening {
	f := opening{all: c.pkts(), rtt: 2 * c.delay}
	for i, p := range f.all {
		if h := p.head; p.up && len(h) >= 11 && (h[0] == 0x14 || h[0] == 0x17) {
			rest := p
			if h[0] == 0x14 && h[6] == 0x17 {
				rest.size -= 6 + 5 + int(h[9])<<8 + int(h[10])
			} else if h[0] == 0x14 {
				continue
			}
			f.after = append([]packet(nil), f.all[i:]...)
			if f.after[0] = rest; rest.size <= 0 {
				f.after = f.after[1:]
			}
			break
		}
	}
	f.later = f.after
	for n, i := 0, 0; i < len(f.after); i++ {
		if p := f.after[i]; p.up && p.size > 250 && (i == 0 || !f.after[i-1].up) {
			if n++; n == 2 {
				f.later = f.after[i:]
				break
			}
		}
	}
	f.later = slices.Clone(f.later[:min(len(f.later), flightPackets)])
	f.after = slices.Clone(f.after[:min(len(f.after), flightPackets)])
	f.all = slices.Clone(f.all[:min(len(f.all), flightPackets)]) // a bulk connection has thousands
	return f
}

// bursts are the bytes of each, less 40 for every packet, and whether the first is the client's. A wait of three round trips
// ends one, too.
func (f *opening) bursts() (sizes []float64, up []bool) {
	for i, p := range f.after {
		n := float64(max(0, p.size-40))
		if i == 0 || p.up != f.after[i-1].up || p.at-f.after[i-1].at >= 3*f.rtt {
			sizes, up = append(sizes, n), append(up, p.up)
			continue
		}
		sizes[len(sizes)-1] += n
	}
	return sizes, up
}

func letters(all []packet, overhead int) string {
	var b strings.Builder
	for _, p := range all {
		l := byte('A')
		for _, m := range [...]int{160, 600, 1210} {
			if p.size-overhead > m {
				l++
			}
		}
		if p.up {
			l += 'a' - 'A'
		}
		b.WriteByte(l)
	}
	return b.String()
}

// xueTrained is the classifier of Xue et al. with its tables made from training data rather than from what the lab's rule
// was made from: 3-grams of handshakes in the open against those of what follows them, and bursts of handshakes in a plain
// tunnel, for each browser.
type xueTrained struct {
	grams      []string
	handshakes map[string]float64
	others     map[string]float64
	models     []bursts
}

// bursts are the mean and deviation of three bursts in a row, logarithms or not.
type bursts struct{ mean, deviation [3]float64 }

func fit(all [][3]float64) (b bursts) {
	for i := range 3 {
		var sum, squares float64
		for _, v := range all {
			sum += v[i]
			squares += v[i] * v[i]
		}
		n := float64(len(all))
		b.mean[i] = sum / n
		b.deviation[i] = max(math.Sqrt(max(squares/n-b.mean[i]*b.mean[i], 0)), 30)
	}
	return b
}

func (b *bursts) distance(v []float64) float64 {
	sum := 0.0
	for i := range 3 {
		d := (v[i] - b.mean[i]) / b.deviation[i]
		sum += d * d
	}
	return math.Sqrt(sum)
}

// trainXue makes the tables; tunnelled are by browser.
func trainXue(open []sample, tunnelled map[browser][]sample) *xueTrained {
	x := &xueTrained{handshakes: map[string]float64{}, others: map[string]float64{}}
	count := func(into map[string]float64, text string) (n float64) {
		for i := 0; i+3 <= len(text); i++ {
			into[text[i:i+3]]++
			n++
		}
		return n
	}
	var n, m float64
	for _, s := range open {
		n += count(x.handshakes, letters(s.flow.all, 0))
		m += count(x.others, letters(s.flow.after, 0))
	}
	for g := range x.handshakes {
		x.others[g] += 0
	}
	for g := range x.others {
		x.handshakes[g] = x.handshakes[g]/n + 0.002
		x.others[g] = x.others[g]/m + 0.002
		x.grams = append(x.grams, g)
	}
	// The most telling: where shares differ most, as chi-squared counts them.
	telling := func(g string) float64 {
		d := x.handshakes[g] - x.others[g]
		return d * d / (x.handshakes[g] + x.others[g])
	}
	sort.Slice(x.grams, func(i, j int) bool { return telling(x.grams[i]) > telling(x.grams[j]) })
	x.grams = x.grams[:min(len(x.grams), 100)]
	for _, all := range tunnelled {
		var firsts [][3]float64
		for _, s := range all {
			if b, up := s.flow.bursts(); len(b) >= 3 && up[0] {
				firsts = append(firsts, [3]float64(b[:3]))
			}
		}
		if len(firsts) > 5 {
			x.models = append(x.models, fit(firsts))
		}
	}
	return x
}

// score is the ratio and the distance; nothing is said of short connections.
func (x *xueTrained) score(s *sample) (ratio, distance float64) {
	if len(s.flow.after) < flightPackets {
		return math.NaN(), math.NaN()
	}
	got := map[string]float64{}
	text := letters(s.flow.after, 40)
	for i := 0; i+3 <= len(text); i++ {
		got[text[i:i+3]]++
	}
	n := float64(len(text) - 2)
	var h, o float64
	for _, g := range x.grams {
		e := n * x.handshakes[g]
		h += (got[g] - e) * (got[g] - e) / e
		e = n * x.others[g]
		o += (got[g] - e) * (got[g] - e) / e
	}
	return o / h, x.near(s)
}

// near is the distance alone.
func (x *xueTrained) near(s *sample) float64 {
	distance := math.Inf(1)
	b, up := s.flow.bursts()
	for i := 0; i+3 <= len(b); i++ {
		if !up[i] || up[i+1] || !up[i+2] {
			continue
		}
		for _, m := range x.models {
			distance = min(distance, m.distance(b[i:]))
		}
	}
	return distance
}

// neighbours knows links of Godwit themselves, shaped as they are, and direct connections: it votes among the eleven that are
// nearest by the sizes and directions of 25 packets, after the first exchange, whose lengths these tests only imitate. Nobody has published it; whoever runs the program can make it.
type neighbours struct {
	points [][flightPackets]float64
	ours   []bool
}

func point(s *sample) (p [flightPackets]float64) {
	for i, pk := range s.flow.later {
		p[i] = math.Sqrt(float64(pk.size))
		if !pk.up {
			p[i] = -p[i]
		}
	}
	return p
}

func (k *neighbours) learn(all []sample, ours bool) {
	for i := range all {
		k.points = append(k.points, point(&all[i]))
		k.ours = append(k.ours, ours)
	}
}

func (k *neighbours) score(s *sample) float64 {
	p := point(s)
	type near struct {
		d    float64
		ours bool
	}
	all := make([]near, len(k.points))
	for i, q := range k.points {
		d := 0.0
		for j := range p {
			d += (p[j] - q[j]) * (p[j] - q[j])
		}
		all[i] = near{d, k.ours[i]}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].d < all[j].d })
	votes := 0.0
	for _, n := range all[:min(11, len(all))] {
		if n.ours {
			votes += 1 / (1 + n.d)
		} else {
			votes -= 1 / (1 + n.d)
		}
	}
	return votes
}

// A detector is a family of verdicts, from the strictest: choose picks the one that finds most of the control with no more
// than the allowed share of direct connections wrongly.
type detector struct {
	name     string
	verdicts []verdict
}

type verdict struct {
	how   string
	found func(s *sample) bool
}

// choose picks the best verdict on training data; nil if none is within the bound.
func (d *detector) choose(open, control []sample, bound float64) (best *verdict) {
	caught := -1.0
	for i := range d.verdicts {
		v := &d.verdicts[i]
		if share(open, v.found) > bound {
			continue
		}
		if c := share(control, v.found); c > caught {
			best, caught = v, c
		}
	}
	return best
}

func share(all []sample, found func(*sample) bool) float64 {
	n := 0
	for i := range all {
		if found(&all[i]) {
			n++
		}
	}
	return float64(n) / float64(max(len(all), 1))
}

// above makes verdicts of a score, at every threshold that the direct connections have.
func above(open []sample, score func(*sample) float64) (all []verdict) {
	var scores []float64
	for i := range open {
		if v := score(&open[i]); !math.IsNaN(v) && !math.IsInf(v, 0) {
			scores = append(scores, v)
		}
	}
	sort.Sort(sort.Reverse(sort.Float64Slice(scores)))
	for _, limit := range scores[:min(len(scores), 1+len(open)/50)] {
		all = append(all, verdict{fmt.Sprintf("above %.3g", limit), func(s *sample) bool { return score(s) > limit }})
	}
	return all
}

// both makes verdicts of a ratio that must be high and a distance that must be low.
func both(score func(*sample) (ratio, distance float64)) (all []verdict) {
	for delta := 0.3; delta <= 2.5; delta += 0.1 {
		for gamma := 0.3; gamma <= 5; gamma += 0.1 {
			all = append(all, verdict{fmt.Sprintf("ratio from %.1f, distance to %.1f", delta, gamma), func(s *sample) bool {
				r, d := score(s)
				return r >= delta && d <= gamma
			}})
		}
	}
	return all
}

const roundTrips = "round trips"

func detectors(open []sample, trained *xueTrained) (all []detector) {
	all = append(all, detector{"Xue et al., the lab's tables", both(func(s *sample) (float64, float64) { return s.ratio, s.distance })})
	all = append(all, detector{"Xue et al., trained here", both(cached(trained.score))})
	all = append(all, detector{"its bursts alone, trained here", above(open, func(s *sample) float64 { return -trained.near(s) })})
	ndpi := detector{name: "nDPI"}
	for _, l := range ndpiLimits {
		ndpi.verdicts = append(ndpi.verdicts, verdict{fmt.Sprintf("score below %g", l), func(s *sample) bool { return s.ndpi[l] }})
	}
	trojan := detector{name: "Trojan's tree"}
	for _, l := range trojanLeasts {
		trojan.verdicts = append(trojan.verdicts, verdict{fmt.Sprintf("hello from %d bytes", l), func(s *sample) bool { return s.trojan[l] }})
	}
	rtt := detector{roundTrips, above(open, func(s *sample) float64 { return s.rtt })}
	return append(all, ndpi, trojan, rtt)
}

// cached remembers scores: grids ask often.
func cached(score func(*sample) (float64, float64)) func(*sample) (float64, float64) {
	type pair struct{ r, d float64 }
	known := map[*sample]pair{}
	return func(s *sample) (float64, float64) {
		p, ok := known[s]
		if !ok {
			p.r, p.d = score(s)
			known[s] = p
		}
		return p.r, p.d
	}
}
