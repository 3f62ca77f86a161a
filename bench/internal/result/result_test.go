package result

import (
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3}} {
		if got := Median(c.v); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.v, got, c.want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 12345.6: "12346", 99.96: "100.0", 12.34: "12.3", 1.234: "1.23", 0.00123: "0.0012"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

// threeRuns is a bench of two peers, of which one fails once.
func threeRuns() []*Run {
	var runs []*Run
	for i, v := range [][2]float64{{100, 200}, {300, 500}, {200, 300}} {
		r := &Run{
			Schema: Schema, Number: i + 1, Suite: "quick", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Machine:    Machine{Kernel: "6.1", CPU: "a|b", Cores: 2, Memory: 4 << 30, Go: "go1", Sandbox: "in a box"},
			Peers:      map[string]Peer{"direct": {Version: "-"}, "wireguard": {Version: "v1", Settings: "MTU"}},
			Conditions: []Condition{{Name: "clean", About: "Nothing limits."}, {Name: "unused", About: "None."}},
			Skipped:    map[string]string{"godwit": "no program"},
		}
		for j, p := range []string{"wireguard", "direct"} {
			r.Measurements = append(r.Measurements, &Measurement{
				Condition: "clean", Peer: p, OthersBusy: 0.1,
				CC: &CC{Asked: "bbr", By: "sysctl", Probed: map[string]string{"a-b": "bbr", "b-a": "bbr"},
					Sockets: map[string]map[string]int{"gateway": {"bbr": 2}}},
				Metrics: map[string]float64{"down1.mbps": v[j], "pingpong.p50_us": v[1-j]},
			})
		}
		runs = append(runs, r)
	}
	runs[1].Measurements[0].Errors = map[string]string{"up1": "it | broke\ntwice"}
	runs[2].Measurements[0].Metrics["connrate.failed"] = 7
	runs[2].Measurements[0].Slow = []string{"pingpong"}
	runs[2].Measurements[0].CC.Sockets["gateway"]["cubic"] = 1
	return runs
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := Markdown(&b, threeRuns(), ""); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"2026-01-02 03:04 UTC, 3 run(s), suite quick. a|b, 2 cores, 4 GiB",
		"| wireguard | v1 | MTU |",
		"- **godwit is missing**: no program",
		"Congestion control read back from sockets: bbr (set by sysctl).",
		"**wireguard chose its own congestion control**: gateway cubic.",
		"| peer | down Mbit/s | ping-pong p50 µs |\n|---|---|---|\n| direct | 300 (200–500) | 200 (100–300) |\n" +
			"| wireguard | 200 (100–300) | 300 (200–500) † |\n",
		"† Measured with less offered, or for longer",
		"Relative to wireguard",
		"| direct | 1.50 ▲ | 0.67 ▲ |",
		`| clean | wireguard | up1 | 1 | it \| broke twice |`,
		"| clean | wireguard | connrate | 1 | failed: 7 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(got, "## unused") {
		t.Error("a condition without measurements is shown")
	}
	if t.Failed() {
		t.Log(got)
	}
	b.Reset()
	if err := Markdown(&b, threeRuns(), "direct"); err != nil || !strings.Contains(b.String(), "| wireguard | 0.67 ▼ | 1.50 ▼ |") {
		t.Errorf("relative to direct: %v\n%s", err, b.String())
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Read(dir); err == nil {
		t.Error("read an empty directory")
	}
	for _, r := range threeRuns() {
		if err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	runs, err := Read(dir)
	if err != nil || len(runs) != 3 || runs[2].Number != 3 || runs[1].Measurements[0].Errors["up1"] == "" {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	runs[0].Schema = "another/1"
	if err := runs[0].Write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("read another schema")
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	runs := threeRuns()
	for i, r := range runs {
		r.Suite = "transports"
		r.Measurements = append(r.Measurements, &Measurement{Condition: "clean-bbr", Peer: "godwit-relay", Slow: []string{"udp"},
			Metrics: map[string]float64{"down1.mbps": float64(10 + i), "up1.mbps": 7, "down1.client_s_per_gb": 1,
				"down1.gateway_s_per_gb": 2, "down1.relay1_s_per_gb": 0.5, "udp.p50_ms": 3, "udp.p99_ms": 40}})
	}
	var b strings.Builder
	if err := Markdown(&b, runs, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| peer | clean | CPU |\n", "| godwit-relay | 11.0 / 7.00 | 3.50 / – |", "| direct | – | – |",
		"| godwit-relay | 3.00 / 40.0 † |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
