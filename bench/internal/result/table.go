package result

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
)

// column is one metric of the tables.
type column struct {
	key, title string
	lower      bool // less is better
}

// columns lists them in the order they are shown; a table has those that anything was found for.
var columns = []column{
	{"down1.mbps", "down Mbit/s", false},
	{"down1.late_mbps", "its second half", false},
	{"up1.mbps", "up Mbit/s", false},
	{"up1.late_mbps", "its second half", false},
	{"down4.mbps", "down ×4", false},
	{"up4.mbps", "up ×4", false},
	{"down1.client_s_per_gb", "down: client CPU s/GB", true},
	{"down1.gateway_s_per_gb", "down: gateway CPU s/GB", true},
	{"up1.client_s_per_gb", "up: client CPU s/GB", true},
	{"up1.gateway_s_per_gb", "up: gateway CPU s/GB", true},
	{"down1.front_s_per_gb", "down: web server CPU s/GB", true},
	{"up1.front_s_per_gb", "up: web server CPU s/GB", true},
	{"down1.relay1_s_per_gb", "down: relay CPU s/GB", true},
	{"up1.relay1_s_per_gb", "up: relay CPU s/GB", true},
	{"down1.machine_s_per_gb", "down: whole machine s/GB", true},
	{"pingpong.p50_us", "ping-pong p50 µs", true},
	{"pingpong.p99_us", "ping-pong p99 µs", true},
	{"loaded.p50_us", "under download p50 µs", true},
	{"loaded.p99_us", "under download p99 µs", true},
	{"connrate.per_s", "new conn/s (64 at once)", false},
	{"conntime.p50_ms", "new conn p50 ms", true},
	{"conntime.p99_ms", "new conn p99 ms", true},
	{"fetch.first_s", "1 MB HTTPS first s", true},
	{"fetch.p50_s", "1 MB HTTPS p50 s", true},
	{"page.p50_s", "page load s", true},
	{"page.max_s", "slowest page load s", true},
	{"keystroke.p50_ms", "keystroke p50 ms", true},
	{"keystroke.p99_ms", "keystroke p99 ms", true},
	{"keystroke.bulk_mbps", "beside it, down Mbit/s", false},
	{"udp.down_mbps", "UDP to and fro Mbit/s", false},
	{"udp.up_lost", "UDP lost up %", true},
	{"udp.down_lost", "UDP lost down %", true},
	{"udp.up_jitter_ms", "UDP jitter up ms", true},
	{"udp.down_jitter_ms", "UDP jitter down ms", true},
	{"udp.p50_ms", "UDP p50 above path ms", true},
	{"udp.p99_ms", "UDP p99 above path ms", true},
	{"udp.bulk_mbps", "beside it, down Mbit/s", false},
	{"call.up_lost", "call lost up %", true},
	{"call.down_lost", "call lost down %", true},
	{"call.up_jitter_ms", "call jitter up ms", true},
	{"call.down_jitter_ms", "call jitter down ms", true},
	{"call.p50_ms", "call p50 above path ms", true},
	{"call.p99_ms", "call p99 above path ms", true},
	{"call.bulk_mbps", "beside it, down Mbit/s", false},
	{"start.first_byte_ms", "start to first byte ms", true},
	{"restart.first_byte_ms", "start again to first byte ms", true},
	{"rss.gateway_idle_mib", "gateway MiB idle", true},
	{"rss.gateway_after_mib", "gateway MiB after", true},
	{"rss.client_idle_mib", "client MiB idle", true},
	{"rss.client_after_mib", "client MiB after", true},
}

// Markdown writes a report of runs: for each condition the medians with their ranges, and the medians relative to
// base, a peer's name; an empty base means wireguard, direct or hysteria2.
func Markdown(w io.Writer, runs []*Run, base string) error {
	r := &report{runs: runs}
	r.collect()
	for _, p := range []string{"wireguard", "direct", "hysteria2"} {
		if base == "" && slices.Contains(r.peers, p) {
			base = p
		}
	}
	var b strings.Builder
	r.head(&b)
	r.summary(&b)
	for _, c := range r.conditions {
		r.condition(&b, c, base)
	}
	r.trouble(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

type report struct {
	runs       []*Run
	conditions []Condition
	peers      []string
	values     map[string][]float64 // condition, peer, metric, joined by a zero byte
	measured   map[string][]*Measurement
	slow       map[string]bool // condition, peer, test
}

func key(parts ...string) string { return strings.Join(parts, "\x00") }

func (r *report) collect() {
	r.values, r.measured = make(map[string][]float64), make(map[string][]*Measurement)
	r.slow = make(map[string]bool)
	for _, run := range r.runs {
		for _, c := range run.Conditions {
			if !slices.ContainsFunc(r.conditions, func(o Condition) bool { return o.Name == c.Name }) {
				r.conditions = append(r.conditions, c)
			}
		}
		for _, m := range run.Measurements {
			if !slices.Contains(r.peers, m.Peer) {
				r.peers = append(r.peers, m.Peer)
			}
			r.measured[m.Condition] = append(r.measured[m.Condition], m)
			for _, test := range m.Slow {
				r.slow[key(m.Condition, m.Peer, test)] = true
			}
			for name, v := range m.Metrics {
				k := key(m.Condition, m.Peer, name)
				r.values[k] = append(r.values[k], v)
			}
		}
	}
	// Runs begin with different peers; tables do not.
	order := []string{"direct", "wireguard", "reality", "trojan", "hysteria2", "godwit"}
	rank := func(p string) int {
		if i := slices.Index(order, p); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortFunc(r.peers, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

func (r *report) head(b *strings.Builder) {
	first := r.runs[0]
	m := first.Machine
	fmt.Fprintf(b, "# Peers side by side\n\n%s, %d run(s), suite %s. %s, %d cores, %.0f GiB, kernel %s; bench built with %s, %s.\n\n",
		first.Started.UTC().Format("2006-01-02 15:04 MST"), len(r.runs), first.Suite, m.CPU, m.Cores,
		float64(m.Memory)/(1<<30), m.Kernel, m.Go, m.Sandbox)
	fmt.Fprintf(b, "Both ends of a peer, the load generator, the target and the link model share these cores. A cell is the "+
		"median of the runs, with their range where they differ. CPU seconds per GB (10⁹ bytes of payload) are of the "+
		"peer's own processes. The bench's README says how each number is taken.\n\n")
	fmt.Fprintf(b, "| peer | version | settings |\n|---|---|---|\n")
	names := slices.Clone(r.peers)
	for _, name := range names {
		p := first.Peers[name]
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, cell(p.Version), cell(p.Settings))
	}
	fmt.Fprintln(b)
	for _, name := range slices.Sorted(maps.Keys(first.Skipped)) {
		fmt.Fprintf(b, "- **%s is missing**: %s\n", name, cell(first.Skipped[name]))
	}
	if len(first.Skipped) > 0 {
		fmt.Fprintln(b)
	}
}

// cell keeps text from breaking a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

func (r *report) condition(b *strings.Builder, c Condition, base string) {
	var cols []column
	for _, col := range columns {
		if slices.ContainsFunc(r.peers, func(p string) bool { return len(r.values[key(c.Name, p, col.key)]) > 0 }) {
			cols = append(cols, col)
		}
	}
	if len(cols) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s\n\n%s\n\n", c.Name, c.About)
	r.truth(b, c)
	marked := false
	// Many columns make a table nobody can read.
	for part := range even(cols, 9) {
		fmt.Fprintf(b, "| peer |")
		for _, col := range part {
			fmt.Fprintf(b, " %s |", col.title)
		}
		fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(part)))
		for _, p := range r.peers {
			fmt.Fprintf(b, "| %s |", p)
			for _, col := range part {
				test, _, _ := strings.Cut(col.key, ".")
				mark := ""
				if r.slow[key(c.Name, p, test)] {
					mark, marked = " †", true
				}
				fmt.Fprintf(b, " %s%s |", spread(r.values[key(c.Name, p, col.key)]), mark)
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
	if marked {
		fmt.Fprint(b, "† Measured with less offered, or for longer: the others' test is too much for this peer.\n\n")
	}
	r.ratios(b, c, cols, base)
}

// even cuts columns into tables of about the same width, at most so many.
func even(cols []column, most int) iter.Seq[[]column] {
	tables := (len(cols) + most - 1) / most
	return slices.Chunk(cols, (len(cols)+tables-1)/tables)
}

// truth says what the path really was.
func (r *report) truth(b *strings.Builder, c Condition) {
	ccs, pings := make(map[string]bool), []float64(nil)
	unfaithful, frames, late := 0, uint64(0), uint64(0)
	busy, noisy := 0.0, 0
	for _, m := range r.measured[c.Name] {
		if m.CC != nil {
			var seen []string
			for _, v := range m.CC.Probed {
				if !slices.Contains(seen, v) {
					seen = append(seen, v)
				}
			}
			slices.Sort(seen)
			ccs[fmt.Sprintf("%s (set by %s)", strings.Join(seen, " and "), m.CC.By)] = true
		}
		pings = append(pings, m.PingMS...)
		for _, s := range m.Link {
			if !s.Faithful() {
				unfaithful++
			}
			frames += s.Frames
			late = max(late, s.LateP99us)
		}
		if busy = max(busy, m.OthersBusy); m.OthersBusy > 0.3 {
			noisy++
		}
	}
	if len(ccs) > 0 {
		fmt.Fprintf(b, "Congestion control read back from sockets: %s. ", strings.Join(slices.Sorted(maps.Keys(ccs)), "; "))
	}
	if len(pings) > 0 {
		fmt.Fprintf(b, "Ping client to gateway: %s ms. ", spread(pings))
	}
	if frames > 0 {
		fmt.Fprintf(b, "The link model carried %d frames; in the worst measurement 1 %% of them left more than %d µs late; "+
			"unfaithful directions: %d. ", frames, late, unfaithful)
	}
	if noisy > 0 {
		fmt.Fprintf(b, "Before %d of %d measurements something else used more than 0.3 cores (at most %.1f). ",
			noisy, len(r.measured[c.Name]), busy)
	}
	fmt.Fprint(b, "\n\n")
	for _, p := range r.peers {
		own := make(map[string]bool)
		for _, m := range r.measured[c.Name] {
			if m.Peer != p || m.CC == nil {
				continue
			}
			for host, counts := range m.CC.Sockets {
				for cc := range counts {
					if cc != m.CC.Asked && m.CC.Asked != "" {
						own[host+" "+cc] = true
					}
				}
			}
		}
		if len(own) > 0 {
			fmt.Fprintf(b, "**%s chose its own congestion control**: %s.\n\n", p,
				strings.Join(slices.Sorted(maps.Keys(own)), ", "))
		}
	}
}

func (r *report) ratios(b *strings.Builder, c Condition, cols []column, base string) {
	var show []column
	for _, col := range cols {
		if Median(r.values[key(c.Name, base, col.key)]) > 0 && !strings.HasPrefix(col.key, "rss.") {
			show = append(show, col)
		}
	}
	if len(show) == 0 || len(r.peers) < 2 {
		return
	}
	fmt.Fprintf(b, "Relative to %s (medians; above 1 is more, ▲ better, ▼ worse):\n\n", base)
	for part := range even(show, 13) {
		fmt.Fprintf(b, "| peer |")
		for _, col := range part {
			fmt.Fprintf(b, " %s |", col.title)
		}
		fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(part)))
		for _, p := range r.peers {
			if p == base {
				continue
			}
			fmt.Fprintf(b, "| %s |", p)
			for _, col := range part {
				v := r.values[key(c.Name, p, col.key)]
				if len(v) == 0 {
					fmt.Fprint(b, " – |")
					continue
				}
				q := Median(v) / Median(r.values[key(c.Name, base, col.key)])
				mark := ""
				switch {
				case q > 1.03 && !col.lower || q < 0.97 && col.lower:
					mark = " ▲"
				case q < 0.97 && !col.lower || q > 1.03 && col.lower:
					mark = " ▼"
				}
				fmt.Fprintf(b, " %s%s |", number(q), mark)
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
}

// trouble lists what failed, and how often.
func (r *report) trouble(b *strings.Builder) {
	type what struct{ condition, peer, test, text string }
	count := make(map[what]int)
	var order []what
	add := func(w what) {
		if count[w]++; count[w] == 1 {
			order = append(order, w)
		}
	}
	for _, c := range r.conditions {
		for _, m := range r.measured[c.Name] {
			for _, test := range slices.Sorted(maps.Keys(m.Errors)) {
				add(what{c.Name, m.Peer, test, m.Errors[test]})
			}
			for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
				test, metric, _ := strings.Cut(name, ".")
				if v := m.Metrics[name]; v > 0 && (metric == "broken_streams" || metric == "failed" || metric == "unanswered") {
					add(what{c.Name, m.Peer, test, fmt.Sprintf("%s: %g", metric, v)})
				}
			}
		}
	}
	if len(order) == 0 {
		return
	}
	fmt.Fprintf(b, "## Failures\n\n| condition | peer | test | times | what |\n|---|---|---|---|---|\n")
	for _, w := range order {
		fmt.Fprintf(b, "| %s | %s | %s | %d | %s |\n", w.condition, w.peer, w.test, count[w], cell(w.text))
	}
	fmt.Fprintln(b)
}

// spread is the median with the range.
func spread(v []float64) string {
	switch len(v) {
	case 0:
		return "–"
	case 1:
		return number(v[0])
	}
	lo, mid, hi := number(slices.Min(v)), number(Median(v)), number(slices.Max(v))
	if lo == hi {
		return mid
	}
	return fmt.Sprintf("%s (%s–%s)", mid, lo, hi)
}

// number has three digits that matter.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.01:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
