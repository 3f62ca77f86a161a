package prober

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

const schema = "godwit.lab.probe/1"

// Report is what came of probing a suspect.
type Report struct {
	Schema  string         `json:"schema"`
	Network string         `json:"network"`
	Suspect netip.AddrPort `json:"suspect"`
	Control netip.AddrPort `json:"control"`
	Why     string         `json:"why"`
	// Seen is what the server answered its user with, as far as that was recorded.
	Seen    string    `json:"seen"`
	Scale   float64   `json:"scale"`
	Seed    uint64    `json:"seed"`
	Verdict Verdict   `json:"verdict"`
	Results []*Result `json:"results"`

	server [][]byte // what was recorded of it
}

// Result is one probe's.
type Result struct {
	Probe  string  `json:"probe"`
	Family string  `json:"family"`
	Wait   float64 `json:"wait_seconds"` // before Scale
	Tries  int     `json:"tries"`
	// Suspect and Control are like answers of any try, or the last try's.
	Suspect Answer `json:"suspect"`
	Control Answer `json:"control"`
	Same    bool   `json:"same"`

	kind  Kind
	probe Probe
	wait  time.Duration
	pairs [][2]Answer
}

// Alike counts the probes that were sent, and of them those that the suspect answered as the control did.
func (r *Report) Alike() (alike, sent int) {
	for _, res := range r.Results {
		if res.Suspect.End == NotSent {
			continue
		}
		sent++
		if res.Same {
			alike++
		}
	}
	return alike, sent
}

// WriteJSON writes it as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes it as a table for people, with the first few differences in full.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s %s, suspected: %s; its user was answered: %s\ncontrol %s, waits × %g, seed %d\n\n", r.Network, r.Suspect, r.Why, r.Seen, r.Control,
		r.Scale, r.Seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "probe\twait\tsuspect\tcontrol\tsame")
	for _, res := range r.Results {
		same := "yes"
		if !res.Same {
			same = "NO"
		}
		wait := time.Duration(res.Wait * float64(time.Second)).Round(10 * time.Millisecond)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", res.Probe, wait, res.Suspect.cell(), res.Control.cell(), same)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	// The table has no room for all that differs.
	const most = 8
	shown := 0
	for _, res := range r.Results {
		if res.Same || shown == most {
			continue
		}
		shown++
		fmt.Fprintf(w, "\n%s\n  suspect: %s\n  control: %s\n", res.Probe, res.Suspect, res.Control)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Verdict)
	return err
}

// cell is as much of an answer as a table has room for.
func (a Answer) cell() string {
	const width = 44
	what := a.What
	if utf8.RuneCountInString(what) > width {
		what = string([]rune(what)[:width-1]) + "…"
	}
	if a.End == NotSent {
		return "(not sent: " + what + ")"
	}
	return fmt.Sprintf("%s, %s, %.0f ms", what, a.End, a.Took)
}
