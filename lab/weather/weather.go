// Package weather is the report on Godwit under firewalls that change their rules while traffic passes: what was measured,
// what must hold of it, and how it reads. The scenarios that measure are in lab/scenario.
package weather

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Schema names the form of the JSON.
const Schema = "godwit.lab.weather/1"

// What must hold, whatever the weather.
const (
	// DialSpacing is the least time between two dials: truth 5 of the design.
	DialSpacing = 450 * time.Millisecond
	// spacingSlack is how much less the firewall may see where one of two packets had to wait for a processor.
	spacingSlack = 100 * time.Millisecond
	// DialsPerMinute is how many dials there may be in any minute. Exponential back-off from DialSpacing doubles the wait
	// each time that all ways have failed: of seven ways each is tried once at 0.45 s from the last, at 0.9, at 1.8, and at
	// 3.6, which with the jitter of an eighth takes 53 s; two more take the links that were there before.
	DialsPerMinute = 30
	// Memory in the last quarter may be so much above that of the second.
	memoryFactor, memorySlack = 1.25, 8 << 20
	// memoryAfter is how long a run takes at least that says something of memory.
	memoryAfter = 5 * time.Minute
)

// Spell is a mood of the firewall.
type Spell struct {
	Mood string        `json:"mood"`
	At   time.Duration `json:"at"`
	For  time.Duration `json:"for"`
	Met  int           `json:"met"` // packets
	// The longest time that the stream of echoes and the downloads waited, of those waits that ended in it or in the calm
	// after it.
	Echo     time.Duration `json:"echo"`
	Download time.Duration `json:"download"`
	Dials    int           `json:"dials"` // in it and in the calm after it
}

// Run is one seed's weather.
type Run struct {
	Seed   uint64        `json:"seed"`
	TUN    bool          `json:"tun,omitempty"` // by up --tun
	Length time.Duration `json:"length"`
	Spells []Spell       `json:"spells"`

	Echoes    int   `json:"echoes"`    // that came back
	Downloads int   `json:"downloads"` // that came whole
	Bytes     int64 `json:"bytes"`
	// Broken tells of each stream that was lost, in words.
	Broken []string `json:"broken,omitempty"`
	// Refused counts streams that the client did not open when it was asked to.
	Refused int `json:"refused"`
	// EchoStall and DownloadStall are the longest waits of all.
	EchoStall     time.Duration `json:"echo_stall"`
	DownloadStall time.Duration `json:"download_stall"`

	Dials  []time.Duration `json:"dials"` // when the firewall saw a connection to the gateway begin
	Memory []Memory        `json:"memory"`
}

// Memory is what both ends held at a time, resident, in bytes.
type Memory struct {
	At      time.Duration `json:"at"`
	Client  int64         `json:"client"`
	Gateway int64         `json:"gateway"`
}

// MostDials is how many dials there were in the minute that had the most.
func (r *Run) MostDials() (most int) {
	for i := range r.Dials {
		for most < i+1 && r.Dials[i]-r.Dials[i-most] < time.Minute {
			most++
		}
	}
	return most
}

// Closest is the least time between two dials, and when the second was; zero if there were fewer.
func (r *Run) Closest() (least, at time.Duration) {
	for i := 1; i < len(r.Dials); i++ {
		if gap := r.Dials[i] - r.Dials[i-1]; i == 1 || gap < least {
			least, at = gap, r.Dials[i]
		}
	}
	return least, at
}

// mood is the firewall's at a time.
func (r *Run) mood(at time.Duration) string {
	for _, s := range r.Spells {
		if at >= s.At && at < s.At+s.For {
			return s.Mood
		}
	}
	return "calm"
}

// settled are the medians of an end's memory in the second and the last quarter of the run.
func (r *Run) settled(of func(Memory) int64) (early, late int64) {
	quarter := func(n time.Duration) int64 {
		var all []int64
		for _, m := range r.Memory {
			if m.At >= r.Length*n/4 && m.At < r.Length*(n+1)/4 {
				all = append(all, of(m))
			}
		}
		return median(all)
	}
	return quarter(1), quarter(3)
}

func median[T cmp.Ordered](all []T) (m T) {
	if len(all) > 0 {
		m = slices.Sorted(slices.Values(all))[len(all)/2]
	}
	return m
}

// Faults lists what did not hold.
func (r *Run) Faults() (faults []string) {
	faults = append(faults, r.Broken...)
	if r.Downloads == 0 || r.Echoes == 0 {
		faults = append(faults, fmt.Sprintf("%d echoes and %d downloads came: nothing was shown", r.Echoes, r.Downloads))
	}
	if n := r.MostDials(); n > DialsPerMinute {
		faults = append(faults, fmt.Sprintf("%d dials in one minute, of %d that there may be", n, DialsPerMinute))
	}
	if gap, at := r.Closest(); len(r.Dials) > 1 && gap < DialSpacing-spacingSlack {
		faults = append(faults, fmt.Sprintf("two dials within %v, of %v that lie between them, at %v (%s)", gap.Round(time.Millisecond), DialSpacing,
			at.Round(time.Millisecond), r.mood(at)))
	}
	if r.Length < memoryAfter {
		return faults
	}
	for _, end := range []struct {
		name string
		of   func(Memory) int64
	}{{"client", Memory.client}, {"gateway", Memory.gateway}} {
		early, late := r.settled(end.of)
		if float64(late) > memoryFactor*float64(early)+memorySlack {
			faults = append(faults, fmt.Sprintf("the %s's memory grew from %d to %d MiB", end.name, early>>20, late>>20))
		}
	}
	return faults
}

func (m Memory) client() int64  { return m.Client }
func (m Memory) gateway() int64 { return m.Gateway }

// Stalls is one kind of blow to a steady download, again and again.
type Stalls struct {
	Blow  string `json:"blow"`
	TUN   bool   `json:"tun,omitempty"`
	Links int    `json:"links"` // that the client keeps; zero is as many as it likes
	// RoundTrip is the path's.
	RoundTrip time.Duration `json:"round_trip"`
	// Each is how long the download stood still after each blow.
	Each   []time.Duration `json:"each"`
	Missed int             `json:"missed"` // blows that met nothing
	Broken string          `json:"broken,omitempty"`
}

// Limit is a download on a network that lets every connection begin and none carry much.
type Limit struct {
	// Rate is what each connection is policed to in each direction, in bits a second, or all Together; zero is a freeze after
	// 25 packets.
	Rate     int             `json:"rate"`
	Together bool            `json:"together,omitempty"`
	TUN      bool            `json:"tun,omitempty"`
	Length   time.Duration   `json:"length"`
	Bytes    int64           `json:"bytes"`
	Dials    []time.Duration `json:"dials"`
	Broken   string          `json:"broken,omitempty"`
}

// Name says it in words.
func (l Limit) Name() string {
	name := fmt.Sprintf("each policed to %d kbit/s", l.Rate/1000)
	switch {
	case l.Rate == 0:
		name = "each frozen after 25 packets"
	case l.Together:
		name = fmt.Sprintf("all together policed to %d kbit/s", l.Rate/1000)
	}
	return name + byTUN(l.TUN)
}

// byTUN is what the name of a row has where the client's whole host was captured.
func byTUN(tun bool) string {
	if tun {
		return ", `--tun`"
	}
	return ""
}

// settling is how long a client may take until it has the links that it wants.
const settling = 30 * time.Second

// Replacements is how many dials there were in the minute that had the most, once the client had settled.
func (l *Limit) Replacements() int {
	first := 0
	for first < len(l.Dials) && l.Dials[first] < settling {
		first++
	}
	r := Run{Dials: l.Dials[first:]}
	return r.MostDials()
}

// Report is what was found.
type Report struct {
	Schema  string `json:"schema"`
	Date    string `json:"date"`
	Machine string `json:"machine"`
	// Load is how many programs wanted a processor at once while it was measured, in the mean.
	Load    float64  `json:"load"`
	Version string   `json:"version"`
	Runs    []Run    `json:"runs"`
	Stalls  []Stalls `json:"stalls,omitempty"`
	Limits  []Limit  `json:"limits,omitempty"`
}

// Read reads a report; it is empty if there is no file.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Report{Schema: Schema}, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("%s: schema %q, not %q: it is another version's", path, r.Schema, Schema)
	}
	return r, nil
}

// Write writes weather.md and weather.json into a directory.
func (r *Report) Write(dir string) error {
	slices.SortStableFunc(r.Runs, func(a, b Run) int {
		return cmp.Or(cmp.Compare(byTUN(a.TUN), byTUN(b.TUN)), cmp.Compare(a.Seed, b.Seed))
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	md, err := os.Create(filepath.Join(dir, "weather.md"))
	if err != nil {
		return err
	}
	return errors.Join(r.Markdown(md), md.Close(), os.WriteFile(filepath.Join(dir, "weather.json"), append(b, '\n'), 0o644))
}
