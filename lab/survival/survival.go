// Package survival is what the lab found: for each firewall and each way across, what happened, and why. It writes the table
// as Markdown and as one HTML page, and reads back what it wrote as JSON, so that runs can be added up.
package survival

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Verdict is what came of a cell.
type Verdict string

// The verdicts. None never counts as blocked.
const (
	Passes  Verdict = "passes"
	Blocked Verdict = "blocked"
	// Degraded got through, but worse than the scenario asks: broken once, or much slower.
	Degraded Verdict = "degraded"
	// None was not tried; Note says why.
	None Verdict = "none"
)

// How a cell was tried.
const (
	Program = "program" // with the real program
	Replay  = "replay"  // with recorded packets
)

// Cell is one way across, one firewall, one scenario, one or more runs.
type Cell struct {
	Profile  string  `json:"profile"`
	Peer     string  `json:"peer"`
	Scenario string  `json:"scenario"`
	Verdict  Verdict `json:"verdict"`
	How      string  `json:"how,omitempty"`
	// Rules are those that fired on the connections of the peer, with how often.
	Rules map[string]int `json:"rules,omitempty"`
	// First is what the first rule said that fired.
	First string `json:"first,omitempty"`
	// Note says what the program said last, or why there was nothing to try.
	Note string `json:"note,omitempty"`
	// Runs is how many were made, Passed how many of them passed.
	Runs   int `json:"runs"`
	Passed int `json:"passed"`
	// Of the runs that passed, or of the one that did not: how long to the first byte, the longest stall, the mean rate.
	FirstByte []time.Duration `json:"first_byte,omitempty"`
	Stall     []time.Duration `json:"stall,omitempty"`
	Mbps      []float64       `json:"mbps,omitempty"`
	// Strikes is how often the connection that carried the most was struck in mid-flow.
	Strikes int `json:"strikes,omitempty"`
	// Series is the first run's bytes in each 200 ms, for the plot.
	Series []int64 `json:"series,omitempty"`
	// Capture is the file with the packets of a failure.
	Capture string `json:"capture,omitempty"`
}

// Benign is how ordinary traffic fared in a profile.
type Benign struct {
	Profile string `json:"profile"`
	// Tried and Hit count what was done by ordinary programs, and what of it a rule hit or broke, by kind.
	Tried map[string]int `json:"tried"`
	Hit   map[string]int `json:"hit"`
	Rules map[string]int `json:"rules,omitempty"` // that fired
	Seeds int            `json:"seeds"`
	// First says of the first that was hit what it was and how it ended.
	First string `json:"first,omitempty"`
	// Denied and Stopped count what the profile denies to everyone on purpose, how much of it was tried and how much
	// stopped: neither is among the above.
	Denied  map[string]int `json:"denied,omitempty"`
	Stopped map[string]int `json:"stopped,omitempty"`
	// Skipped says of kinds that could not be tried why.
	Skipped map[string]string `json:"skipped,omitempty"`
}

// Rate is the share of ordinary traffic that was hit.
func (b Benign) Rate() float64 {
	tried, hit := 0, 0
	for k, n := range b.Tried {
		tried, hit = tried+n, hit+b.Hit[k]
	}
	if tried == 0 {
		return 0
	}
	return float64(hit) / float64(tried)
}

// Profile is what a report says about a firewall.
type Profile struct {
	Name      string   `json:"name"`
	Story     string   `json:"story"`
	Sources   []string `json:"sources"`
	Boxes     []string `json:"boxes"` // a line for each
	MustStop  []string `json:"must_stop"`
	Addresses int      `json:"addresses"`
	Relays    int      `json:"relays"`
	Mirrors   int      `json:"mirrors"`
	Hold      string   `json:"hold,omitempty"`
	Picture   string   `json:"picture,omitempty"` // of the country behind it
}

// Peer is what a report says about a way across.
type Peer struct {
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Settings string `json:"settings,omitempty"`
	Why      string `json:"why,omitempty"` // it was not tried
}

// Report is one or more runs of the lab.
type Report struct {
	Schema   string    `json:"schema"`
	Date     string    `json:"date"`
	Machine  string    `json:"machine"`
	Seed     uint64    `json:"seed"`
	Profiles []Profile `json:"profiles"`
	Peers    []Peer    `json:"peers"`
	Cells    []Cell    `json:"cells"`
	Benign   []Benign  `json:"benign,omitempty"`
}

// Schema is that of the JSON.
const Schema = "godwit.lab.survival/1"

// Read reads a report.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("%s: field schema is %q, not %q: it is no report of the lab's, or of another version", path, r.Schema, Schema)
	}
	return r, nil
}

// Write writes it.
func (r *Report) Write(path string) error {
	r.Schema = Schema
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// Add puts in what another report found; of a cell that both have, the newer one's stays.
func (r *Report) Add(newer *Report) {
	for _, p := range newer.Profiles {
		r.Profiles = put(r.Profiles, p, func(a, b Profile) bool { return a.Name == b.Name })
	}
	for _, p := range newer.Peers {
		r.Peers = put(r.Peers, p, func(a, b Peer) bool { return a.Name == b.Name })
	}
	for _, c := range newer.Cells {
		r.Cells = put(r.Cells, c, func(a, b Cell) bool {
			return a.Profile == b.Profile && a.Peer == b.Peer && a.Scenario == b.Scenario
		})
	}
	for _, b := range newer.Benign {
		r.Benign = put(r.Benign, b, func(a, b Benign) bool { return a.Profile == b.Profile })
	}
	r.Date, r.Machine, r.Seed = newer.Date, newer.Machine, newer.Seed
}

// Picture draws the countries behind the firewalls, one below the other.
func (r *Report) Picture() string {
	var all []string
	for _, p := range r.Profiles {
		if p.Picture != "" {
			all = append(all, p.Name+"\n"+p.Picture)
		}
	}
	return strings.Join(all, "\n")
}

func put[T any](list []T, v T, same func(a, b T) bool) []T {
	if i := slices.IndexFunc(list, func(old T) bool { return same(old, v) }); i >= 0 {
		list[i] = v
		return list
	}
	return append(list, v)
}

// Find returns a cell; nil if it is not there.
func (r *Report) Find(profile, peer, scenario string) *Cell {
	for i, c := range r.Cells {
		if c.Profile == profile && c.Peer == peer && c.Scenario == scenario {
			return &r.Cells[i]
		}
	}
	return nil
}

// Lies lists what shows that the lab itself is wrong: a profile that lets pass what it must stop, or hits ordinary traffic
// more than the share that a real firewall was seen to tolerate.
func (r *Report) Lies() (lies []string) {
	for _, p := range r.Profiles {
		for _, peer := range p.MustStop {
			if c := r.Find(p.Name, peer, "reach"); c != nil && c.Verdict == Passes {
				lies = append(lies, fmt.Sprintf("%s must stop %s, which passed", p.Name, peer))
			}
		}
	}
	return lies
}

// scenarios lists the scenarios that there are cells of, in the order in which they came.
func (r *Report) scenarios() (names []string) {
	for _, c := range r.Cells {
		if !slices.Contains(names, c.Scenario) {
			names = append(names, c.Scenario)
		}
	}
	return names
}

// sign is a cell's verdict in a character, and its word.
func (c *Cell) sign() (sign, word string) {
	if c == nil {
		return "", "not run"
	}
	switch c.Verdict {
	case Passes:
		return "✔", "passes"
	case Blocked:
		return "✘", "blocked"
	case Degraded:
		return "~", "degraded"
	}
	return "–", "not tried"
}

// fired lists the rules that fired, the most frequent first.
func (c *Cell) fired() string {
	type count struct {
		rule string
		n    int
	}
	var all []count
	for rule, n := range c.Rules {
		all = append(all, count{rule, n})
	}
	slices.SortFunc(all, func(a, b count) int {
		if a.n != b.n {
			return b.n - a.n
		}
		return strings.Compare(a.rule, b.rule)
	})
	var words []string
	for _, x := range all {
		words = append(words, fmt.Sprintf("%s ×%d", x.rule, x.n))
	}
	return strings.Join(words, ", ")
}

func median[T int64 | float64 | time.Duration](list []T) T {
	if len(list) == 0 {
		return 0
	}
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
}
