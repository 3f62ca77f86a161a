package result

import (
	"fmt"
	"strings"
)

// A summary column is one or more numbers of a condition, each the sum of some metrics; metrics that a peer does not have
// count as none, unless it has none of them.
type summaryColumn struct {
	title, condition string
	numbers          [][]string
}

// cpu is what all of a peer's processes use in a test.
func cpu(test string) (metrics []string) {
	for _, role := range []string{"client", "gateway", "front", "relay1"} {
		metrics = append(metrics, test+"."+role+"_s_per_gb")
	}
	return metrics
}

// one is a number that is one metric.
func one(metrics ...string) (numbers [][]string) {
	for _, m := range metrics {
		numbers = append(numbers, []string{m})
	}
	return numbers
}

// summaries are what the suite transports is run for, across its conditions.
var summaries = []struct {
	about   string
	columns []summaryColumn
}{
	{"Bytes: medians, Mbit/s down / up; on the paths of 200 ms and 100 Mbit/s the second half of each test. CPU is of all of " +
		"a peer's processes, s/GB.",
		[]summaryColumn{
			{"clean", "clean-bbr", one("down1.mbps", "up1.mbps")},
			{"CPU", "clean-bbr", [][]string{cpu("down1"), cpu("up1")}},
			{"BBR, 1 % lost", "long-bbr-loss1", one("down1.late_mbps", "up1.late_mbps")},
			{"BBR, 3 % lost", "long-bbr-loss3", one("down1.late_mbps", "up1.late_mbps")},
			{"CUBIC only, 1 % lost", "long-cubic-only-loss1", one("down1.late_mbps", "up1.late_mbps")},
			{"CUBIC only, 3 % lost", "long-cubic-only-loss3", one("down1.late_mbps", "up1.late_mbps")},
		}},
	{"First byte of a client that starts, cold / warm, and of a new connection, ms.",
		[]summaryColumn{
			{"clean", "clean-bbr", one("start.first_byte_ms", "restart.first_byte_ms")},
			{"new connection", "clean-bbr", one("conntime.p50_ms")},
			{"200 ms", "long-bbr-loss0", one("start.first_byte_ms", "restart.first_byte_ms")},
			{"new connection", "long-bbr-loss0", one("conntime.p50_ms")},
			{"200 ms, 1 % lost", "long-bbr-loss1", one("start.first_byte_ms", "restart.first_byte_ms")},
		}},
	{"Datagrams beside a download, up / down: lost %, jitter ms; round trip above the path's, p50 / p99 ms.",
		[]summaryColumn{
			{"clean: lost", "clean-bbr", one("udp.up_lost", "udp.down_lost")},
			{"delay", "clean-bbr", one("udp.p50_ms", "udp.p99_ms")},
			{"200 ms: lost", "long-bbr-loss0", one("udp.up_lost", "udp.down_lost")},
			{"jitter", "long-bbr-loss0", one("udp.up_jitter_ms", "udp.down_jitter_ms")},
			{"delay", "long-bbr-loss0", one("udp.p50_ms", "udp.p99_ms")},
			{"beside Mbit/s", "long-bbr-loss0", one("udp.bulk_mbps")},
			{"call: lost", "long-bbr-loss0", one("call.up_lost", "call.down_lost")},
			{"delay", "long-bbr-loss0", one("call.p50_ms", "call.p99_ms")},
			{"1 % lost: lost", "long-bbr-loss1", one("udp.up_lost", "udp.down_lost")},
			{"delay", "long-bbr-loss1", one("udp.p50_ms", "udp.p99_ms")},
		}},
}

// summary writes the tables that lie across the conditions of suite transports, with the columns that were measured.
func (r *report) summary(b *strings.Builder) {
	if r.runs[0].Suite != "transports" {
		return
	}
	fmt.Fprint(b, "## In short\n\n")
	for _, s := range summaries {
		var cols []summaryColumn
		for _, c := range s.columns {
			for _, p := range r.peers {
				if r.medians(c, p) != "–" {
					cols = append(cols, c)
					break
				}
			}
		}
		if len(cols) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s\n\n| peer |", s.about)
		for _, c := range cols {
			fmt.Fprintf(b, " %s |", c.title)
		}
		fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(cols)))
		for _, p := range r.peers {
			fmt.Fprintf(b, "| %s |", p)
			for _, c := range cols {
				fmt.Fprintf(b, " %s |", r.medians(c, p))
			}
			fmt.Fprintln(b)
		}
		fmt.Fprintln(b)
	}
}

// medians is a column's cell for a peer.
func (r *report) medians(c summaryColumn, peer string) string {
	var texts []string
	found, slow := false, false
	for _, metrics := range c.numbers {
		var values []float64
		for _, m := range r.measured[c.condition] {
			sum, has := 0.0, false
			for _, name := range metrics {
				v, ok := m.Metrics[name]
				sum, has = sum+v, has || ok
			}
			if has && m.Peer == peer {
				values = append(values, sum)
			}
		}
		text := "–"
		if len(values) > 0 {
			found, text = true, number(Median(values))
		}
		texts = append(texts, text)
		test, _, _ := strings.Cut(metrics[0], ".")
		slow = slow || r.slow[key(c.condition, peer, test)]
	}
	if !found {
		return "–"
	}
	if slow {
		texts[len(texts)-1] += " †"
	}
	return strings.Join(texts, " / ")
}
