package weather_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/weather"
)

// calm is a run in which all holds.
func calm() weather.Run {
	r := weather.Run{Seed: 7, Length: 10 * time.Minute, Echoes: 600, Downloads: 70, Bytes: 70 * 3 << 20,
		Dials:  []time.Duration{-time.Second, 0, 5 * time.Second},
		Spells: []weather.Spell{{Mood: "border shut", At: time.Minute, For: 5 * time.Second, Met: 3, Echo: 6 * time.Second, Dials: 4}}}
	for at := time.Duration(0); at < r.Length; at += 10 * time.Second {
		r.Memory = append(r.Memory, weather.Memory{At: at, Client: 30 << 20, Gateway: 30 << 20})
	}
	return r
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*weather.Run)
		want   string // part of the one fault; empty is none
	}{
		"calm":        {func(*weather.Run) {}, ""},
		"lost":        {func(r *weather.Run) { r.Broken = []string{"a download"} }, "a download"},
		"nothing":     {func(r *weather.Run) { r.Downloads = 0 }, "nothing was shown"},
		"too close":   {func(r *weather.Run) { r.Dials = append(r.Dials, r.Dials[2]+200*time.Millisecond) }, "200ms"},
		"close":       {func(r *weather.Run) { r.Dials = append(r.Dials, r.Dials[2]+400*time.Millisecond) }, ""},
		"grows":       {func(r *weather.Run) { grow(r, 2<<20) }, "memory grew"},
		"grows early": {func(r *weather.Run) { r.Memory[0].Client, r.Memory[1].Client = 1, 300<<20 }, ""},
		"short":       {func(r *weather.Run) { grow(r, 2<<20); r.Length = time.Minute }, ""},
		"many": {func(r *weather.Run) {
			r.Dials = nil
			for i := range weather.DialsPerMinute {
				r.Dials = append(r.Dials, time.Duration(i)*time.Second)
			}
		}, ""},
		"storm": {func(r *weather.Run) {
			for i := range 2 * weather.DialsPerMinute {
				r.Dials = append(r.Dials, time.Minute+time.Duration(i)*time.Second)
			}
		}, "60 dials in one minute"},
	} {
		r := calm()
		c.change(&r)
		faults := r.Faults()
		if c.want == "" && len(faults) > 0 || c.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.want)) {
			t.Errorf("%s: %q, want %q", what, faults, c.want)
		}
	}
}

func grow(r *weather.Run, each int64) {
	for i := range r.Memory {
		r.Memory[i].Gateway += int64(i) * each
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := weather.Read(dir + "/weather.json")
	if err != nil {
		t.Fatal(err)
	}
	broken := calm()
	broken.Seed, broken.Broken = 3, []string{"the stream of echoes"}
	r.Runs = []weather.Run{calm(), broken}
	r.Stalls = []weather.Stalls{{Blow: "address lost", Links: 1, Each: []time.Duration{3e9, 1e9, 2e9}}, {Blow: "bulk reset"}}
	r.Limits = []weather.Limit{{Length: time.Minute, Bytes: 30000}, {Rate: 1e6, Together: true, Length: time.Minute, Bytes: 6e6,
		Dials: []time.Duration{0, time.Second, 31 * time.Second, 80 * time.Second, 100 * time.Second}}}
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := weather.Read(dir + "/weather.json")
	if err != nil {
		t.Fatal(err)
	}
	var md bytes.Buffer
	if err := again.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| 3 | 10 |", "**no**", "- seed 3: the stream of echoes", "| border shut | 2 | 0 | 6.00 s |",
		"| address lost | 1 | 3 | 0 | 2.00 s | 3.00 s | 3.00 s | none |", "| each frozen after 25 packets | 1 | 4 | – | 0 |",
		"| all together policed to 1000 kbit/s | 1 | 800 | 80 % | 5 | 3 | 2 | none |"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("no %q in\n%s", want, md.String())
		}
	}
	if again.Runs[0].Seed != 3 {
		t.Error("runs are not in order of their seeds")
	}
}
