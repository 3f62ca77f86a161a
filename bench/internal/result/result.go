// Package result is what a bench leaves behind: one JSON file per run, and tables of medians made from any number of
// them.
package result

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Schema names the format of a Run. It changes when a reader must.
const Schema = "godwit.bench.run/1"

// Run is one pass over all conditions and peers.
type Run struct {
	Schema       string            `json:"schema"`
	Number       int               `json:"number"`
	Suite        string            `json:"suite"`
	Started      time.Time         `json:"started"`
	Finished     time.Time         `json:"finished,omitzero"` // zero: it was cut short
	Machine      Machine           `json:"machine"`
	Peers        map[string]Peer   `json:"peers"`
	Conditions   []Condition       `json:"conditions"`
	Skipped      map[string]string `json:"skipped,omitempty"` // condition or peer, and why
	Measurements []*Measurement    `json:"measurements"`
}

// Machine is what it ran on.
type Machine struct {
	Kernel  string `json:"kernel"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Memory  int64  `json:"memory_bytes"`
	Go      string `json:"go"`
	Sandbox string `json:"sandbox"`
}

// Peer is what was measured.
type Peer struct {
	Version  string `json:"version"`
	Settings string `json:"settings"`
}

// Condition is a path that peers were measured on.
type Condition struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// Measurement is one peer under one condition in one run.
type Measurement struct {
	Condition string    `json:"condition"`
	Peer      string    `json:"peer"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	// OthersBusy is how many cores something else kept busy just before.
	OthersBusy float64 `json:"others_busy_cores"`

	CC *CC `json:"cc,omitempty"`
	// PingMS is the round trip between client and gateway just before, and Link the model's own account.
	PingMS []float64        `json:"ping_ms,omitempty"`
	Link   map[string]Stats `json:"link,omitempty"`

	// Metrics are named test.metric.
	Metrics   map[string]float64   `json:"metrics"`
	Timelines map[string][]float64 `json:"timelines_mbps,omitempty"`
	// Slow are the tests that were others under the same name, for a slow peer.
	Slow []string `json:"slow,omitempty"`
	// Errors are the tests that failed; "peer" means that it did not start.
	Errors map[string]string `json:"errors,omitempty"`
}

// Stats is the link model's.
type Stats = linkmodel.Stats

// CC says which congestion control a measurement ran with, as read back, not as asked.
type CC struct {
	Asked string `json:"asked"`
	By    string `json:"set_by"`
	// Probed are fresh connections, by hosts, as the dialling and the accepting end saw them.
	Probed map[string]string `json:"probed"`
	// Sockets counts the established TCP sockets of each host in the middle of the first bulk test.
	Sockets map[string]map[string]int `json:"sockets,omitempty"`
}

// Write replaces the run's file, so that a run cut short leaves what it had.
func (r *Run) Write(dir string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, fmt.Sprintf("run-%02d.json", r.Number))
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Read reads all runs of a directory, in order.
func Read(dir string) ([]*Run, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "run-*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var runs []*Run
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		r := &Run{}
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		if r.Schema != Schema {
			return nil, fmt.Errorf("%s: schema %q, want %q", p, r.Schema, Schema)
		}
		runs = append(runs, r)
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("no run-*.json in %s", dir)
	}
	return runs, nil
}

// Median is the middle value, or the mean of the two in the middle.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[n/2] + s[(n-1)/2]) / 2
}
