package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/replay"
	"github.com/godwit-vpn/godwit/lab/survival"
)

// Scenarios lists those that Run knows.
func Scenarios() []string { return []string{"reach", "hold", "probe", "names", "office", "benign"} }

// Config says what to run.
type Config struct {
	Profiles  []string // names, or files
	Peers     []peer.Entry
	Infos     map[string]peer.Info
	Skipped   map[string]string // peers that are not there, and why
	Scenarios []string
	Tools     *peer.Tools
	// Seeds is how many runs a cell of reach has, each with another seed; zero is one. Seed is the first one's.
	Seeds int
	Seed  uint64
	// Replays adds rows of recorded packets, for what no program runs here.
	Replays bool
	// HoldMB is the download's size in hold; zero is 200.
	HoldMB int64
	// Parallel is how many cells run at once; zero is one.
	Parallel int
	// Captures is a directory for the packets of failures, beside the report; empty keeps none.
	Captures string
	Progress io.Writer
}

// cellKey is a place in the table.
type cellKey struct {
	profile, scenario string
	peer              peer.Entry
}

// Run fills in the table. When ctx ends it returns what there is, with the error.
func Run(ctx context.Context, cfg Config) (*survival.Report, error) {
	report := &survival.Report{Schema: survival.Schema, Date: time.Now().UTC().Format(time.DateOnly), Seed: cfg.Seed,
		Machine: Machine()}
	cells := make(map[string][]cellKey) // by scenario
	for _, s := range cfg.Scenarios {
		if !slices.Contains(Scenarios(), s) {
			return nil, fmt.Errorf("there is no scenario %q; there are %s", s, strings.Join(Scenarios(), ", "))
		}
	}
	for _, name := range cfg.Profiles {
		p, err := profile.Load(name)
		if err != nil {
			return nil, err
		}
		d, err := describe(p, gatewaysOf(p))
		if err != nil {
			return nil, err
		}
		report.Profiles = append(report.Profiles, survival.Profile{Name: p.Name, Story: p.Story, Sources: p.Sources,
			Boxes: p.Describe(), MustStop: p.MustStop, Addresses: p.Gateway.Addresses, Relays: len(p.Gateway.Relays),
			Mirrors: p.Gateway.Mirrors, Hold: p.Hold.Why, Picture: d.Draw()})
		for _, s := range cfg.Scenarios {
			if s == "benign" { // of the firewall alone
				cells[s] = append(cells[s], cellKey{name, s, peer.Entry{}})
				continue
			}
			for _, e := range cfg.Peers {
				cells[s] = append(cells[s], cellKey{name, s, e})
			}
		}
	}
	for _, e := range cfg.Peers {
		info := cfg.Infos[e.Name]
		report.Peers = append(report.Peers, survival.Peer{Name: e.Name, Version: info.Version, Settings: info.Settings, Why: cfg.Skipped[e.Name]})
	}
	if cfg.Replays && slices.Contains(cfg.Scenarios, "reach") {
		for _, r := range replay.Recordings() {
			report.Peers = append(report.Peers, survival.Peer{Name: r.Name, Settings: "recorded packets: " + r.About})
			for _, name := range cfg.Profiles {
				c, err := replayed(name, r.Name, cfg.Seed)
				if err != nil {
					return nil, err
				}
				report.Cells = append(report.Cells, c)
			}
		}
	}
	b := &board{cfg: cfg, report: report, begin: time.Now()}
	for _, list := range cells {
		b.total += len(list)
	}
	// Each box is two threads that sleep in the kernel most of the time, which Go counts as running.
	const boxes = 3
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2*boxes*max(1, cfg.Parallel)))
	for _, name := range cfg.Scenarios { // one after the other: hold asks what came of reach
		b.run(ctx, cells[name])
	}
	b.sort()
	return report, ctx.Err()
}

// board is the table while it is filled.
type board struct {
	cfg    Config
	mu     sync.Mutex
	report *survival.Report
	total  int
	done   int
	begin  time.Time
}

// run fills in some cells, as many at once as there may be.
func (b *board) run(ctx context.Context, cells []cellKey) {
	var wg sync.WaitGroup
	work := make(chan cellKey)
	for range max(1, b.cfg.Parallel) {
		wg.Go(func() {
			for k := range work {
				if k.scenario == "benign" {
					b.putBenign(b.benign(ctx, k))
				} else if c := b.fill(ctx, k); ctx.Err() == nil { // what was cut short says nothing
					b.put(c)
				}
			}
		})
	}
	for _, k := range cells {
		if ctx.Err() != nil {
			break
		}
		work <- k
	}
	close(work)
	wg.Wait()
}

// blocked reports whether a peer is known not to get through.
func (b *board) blocked(profile, peer string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.report.Find(profile, peer, "reach")
	return c != nil && c.Verdict == survival.Blocked
}

// put adds a cell and says so.
func (b *board) put(c survival.Cell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report.Cells = append(b.report.Cells, c)
	why := c.First
	if why == "" {
		why = c.Note
	}
	b.sayLocked(c.Profile, c.Scenario, c.Peer, string(c.Verdict), why)
}

// putBenign adds how ordinary traffic fared.
func (b *board) putBenign(found survival.Benign, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	why := found.First
	if err != nil {
		why = err.Error()
	}
	if found.Seeds > 0 {
		b.report.Benign = append(b.report.Benign, found)
	}
	b.sayLocked(found.Profile, "benign", "", fmt.Sprintf("%.2f %%", 100*found.Rate()), why)
}

// benign fills in a profile's ordinary traffic.
func (b *board) benign(ctx context.Context, k cellKey) (survival.Benign, error) {
	return benign(ctx, k.profile, b.cfg.Seed, benignPlan{seeds: max(20, b.cfg.Seeds), dear: 5, denied: 1}, b.cfg.Tools)
}

// sayLocked tells that a job is done.
func (b *board) sayLocked(profile, scenario, peer, verdict, why string) {
	b.done++
	left := time.Duration(float64(time.Since(b.begin)) / float64(b.done) * float64(b.total-b.done)).Round(time.Minute)
	fmt.Fprintf(b.cfg.Progress, "%4d/%d  %-14s %-8s %-18s %-9s %s  (%v left)\n", b.done, b.total, profile, scenario, peer, verdict,
		clip(why, 90), left)
}

func clip(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// sort puts the cells in the order in which they were asked for, whenever they were done.
func (b *board) sort() {
	place := func(list []string, s string) int { return slices.Index(list, s) }
	var profiles, peers []string
	for _, p := range b.report.Profiles {
		profiles = append(profiles, p.Name)
	}
	for _, p := range b.report.Peers {
		peers = append(peers, p.Name)
	}
	slices.SortFunc(b.report.Benign, func(x, y survival.Benign) int { return place(profiles, x.Profile) - place(profiles, y.Profile) })
	slices.SortStableFunc(b.report.Cells, func(x, y survival.Cell) int {
		for _, d := range []int{place(b.cfg.Scenarios, x.Scenario) - place(b.cfg.Scenarios, y.Scenario),
			place(profiles, x.Profile) - place(profiles, y.Profile), place(peers, x.Peer) - place(peers, y.Peer)} {
			if d != 0 {
				return d
			}
		}
		return 0
	})
}

// replayed puts recorded packets before a firewall.
func replayed(name, recording string, seed uint64) (survival.Cell, error) {
	p, err := profile.Load(name)
	if err != nil {
		return survival.Cell{}, err
	}
	fw, err := p.Build(seed, nil)
	if err != nil {
		return survival.Cell{}, err
	}
	out, err := replay.Run(recording, fw.Boxes)
	if err != nil {
		return survival.Cell{}, err
	}
	c := survival.Cell{Profile: p.Name, Peer: recording, Scenario: "reach", Verdict: survival.Passes, How: survival.Replay, Runs: 1, Passed: 1,
		Rules: make(map[string]int)}
	for _, e := range out.Events {
		if c.First == "" {
			c.First = e.Rule + ": " + e.Detail
		}
		c.Rules[e.Rule]++
	}
	if out.Stopped() {
		c.Verdict, c.Passed = survival.Blocked, 0
		c.Note = fmt.Sprintf("%d of %d packets dropped, %d resets", out.Dropped, out.Packets, out.Resets)
	}
	return c, nil
}

// fill runs a cell.
func (b *board) fill(ctx context.Context, k cellKey) survival.Cell {
	p, err := profile.Load(k.profile)
	if err != nil { // it could be read a moment ago
		return survival.Cell{Profile: k.profile, Peer: k.peer.Name, Scenario: k.scenario, Verdict: survival.None, Note: err.Error()}
	}
	c := survival.Cell{Profile: p.Name, Peer: k.peer.Name, Scenario: k.scenario, Verdict: survival.None, How: survival.Program,
		Rules: make(map[string]int)}
	if why := b.cfg.Skipped[k.peer.Name]; why != "" {
		c.Note = why
		return c
	}
	if err := k.peer.Check(); err != nil {
		c.Note = err.Error()
		return c
	}
	if k.scenario == "hold" && b.blocked(p.Name, k.peer.Name) {
		c.Note = "it did not get through in reach"
		return c
	}
	seeds := max(1, b.cfg.Seeds)
	if slices.Contains(p.MustStop, k.peer.Name) {
		seeds = max(seeds, p.Seeds)
	}
	if k.scenario != "reach" {
		seeds = 1
	}
	for n := range seeds {
		r, err := b.once(ctx, k, b.cfg.Seed+uint64(n)*1000)
		if err != nil {
			c.Note = err.Error()
			return c
		}
		add(&c, r)
	}
	return c
}

// add adds a run to its cell: the cell passes if all its runs do, and is blocked if all are.
func add(c *survival.Cell, r run) {
	if r.verdict == survival.None {
		if c.Runs == 0 {
			c.Note = r.note
		}
		return
	}
	c.Runs++
	for rule, n := range r.rules {
		c.Rules[rule] += n
	}
	if c.First == "" {
		c.First = r.first
	}
	// A prober says why it clears, too, and an office how each transfer went.
	if r.note != "" && (r.verdict != survival.Passes || c.Scenario == "probe" || c.Scenario == "office") {
		c.Note = r.note
	}
	if r.capture != "" {
		c.Capture = r.capture
	}
	c.Strikes += r.strikes
	if r.verdict == survival.Passes {
		c.Passed++
		c.FirstByte = append(c.FirstByte, r.fetch.FirstByte)
	}
	if c.Scenario == "hold" || c.Scenario == "office" {
		c.Stall = append(c.Stall, r.fetch.Stall)
		if s := r.fetch.Took.Seconds(); s > 0 {
			c.Mbps = append(c.Mbps, float64(r.fetch.Bytes)*8/1e6/s)
		}
		if c.Series == nil {
			c.Series = r.fetch.Series
		}
	}
	switch {
	case c.Passed == c.Runs:
		c.Verdict = survival.Passes
	case r.verdict == survival.Blocked && (c.Runs == 1 || c.Verdict == survival.Blocked):
		c.Verdict = survival.Blocked
	default:
		c.Verdict = survival.Degraded
	}
}

// once runs a cell's scenario in a country of its own.
func (b *board) once(ctx context.Context, k cellKey, seed uint64) (r run, err error) {
	dir, err := os.MkdirTemp("/run", "lab-")
	if err != nil {
		return run{}, err
	}
	defer os.RemoveAll(dir)
	p, err := profile.Load(k.profile)
	if err != nil {
		return run{}, err
	}
	c, err := newCountry(ctx, p, seed, dir)
	if err != nil {
		return run{}, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	program := k.peer.New(b.cfg.Tools)
	switch k.scenario {
	case "reach":
		r = c.reach(ctx, program)
	case "names":
		r = c.names(ctx, program, visited)
	case "office":
		r = c.office(ctx, program, officePlan{bytes: max(b.cfg.HoldMB, 3) << 20 / 3, blow: 1500 * time.Millisecond, roam: 3 * time.Second,
			blows: 5 * time.Second})
	case "hold":
		r = c.hold(ctx, program, max(b.cfg.HoldMB, 1)<<20)
	case "probe":
		r = c.probe(ctx, program)
	}
	if b.cfg.Captures != "" && (r.verdict == survival.Blocked || r.verdict == survival.Degraded) {
		file := captureName(p.Name, k.peer.Name, k.scenario)
		if err := c.save(filepath.Join(b.cfg.Captures, file)); err != nil {
			return r, fmt.Errorf("the packets of a failure: %w", err)
		}
		r.capture = filepath.Join(filepath.Base(b.cfg.Captures), file)
	}
	return r, nil
}

// Machine says what this one is.
func Machine() string { return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), kernel()) }

// kernel is the running kernel's version.
func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "Linux"
	}
	return "Linux " + strings.TrimSpace(string(b))
}
