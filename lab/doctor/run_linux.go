package doctor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/doctor"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// Result is what came of one cell.
type Result struct {
	Case  string
	Seed  uint64
	Rules string // as drawn
	Found []doctor.Kind
	// Missed was not named, Wrong was and is not so. Neither counts what names no cause and is allowed.
	Missed, Wrong []doctor.Kind
	// Detail is what of a thing that was named rightly is wrong; Detailed says that this was looked at.
	Detail   string
	Detailed bool
	Report   *doctor.Report
	Took     time.Duration
	Err      error // the cell could not be run
}

// Right says that all was named, and nothing else.
func (r *Result) Right() bool { return r.Err == nil && len(r.Missed)+len(r.Wrong) == 0 }

func (r *Result) String() string {
	s := fmt.Sprintf("%s, seed %d: found %v", r.Case, r.Seed, r.Found)
	if len(r.Missed) > 0 {
		s += fmt.Sprintf(", missed %v", r.Missed)
	}
	if len(r.Wrong) > 0 {
		s += fmt.Sprintf(", wrong %v", r.Wrong)
	}
	if r.Detail != "" {
		s += ", detail: " + r.Detail
	}
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Run examines one case's country with a seed. The program godwit is the gateway.
func Run(ctx context.Context, c Case, seed uint64, godwit string) (r Result) {
	r = Result{Case: c.Name, Seed: seed}
	began := time.Now()
	defer func() { r.Took = time.Since(began) }()
	d := &dice{rand.New(rand.NewPCG(seed, uint64(len(c.Name))))}
	box, path, at := inPath, linkmodel.Direction{Delay: 30 * time.Millisecond, Rate: 100e6, QueueTime: 30 * time.Millisecond}, "outside"
	if c.Rules != nil {
		r.Rules = c.Rules(d)
	}
	if c.Box != nil {
		box = c.Box(d)
	}
	if c.Path != nil {
		path = c.Path(d)
	}
	if c.Portal {
		at = "inside"
	}
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		r.Err = err
		return r
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(ctx, &c, at, box, r.Rules, path, seed, godwit, dir)
	if err != nil {
		r.Err = err
		return r
	}
	defer func() { r.Err = errors.Join(r.Err, w.close()) }()
	cfg := doctor.Config{Endpoints: w.key.Endpoints, Pins: w.key.Pins(), System: []netip.AddrPort{domestic}, Dial: dialFrom(w.client),
		Addresses: func() int { return 1 }, Patience: 6 * time.Second} // how long a block lasts is not what is counted
	if !c.Two && d.IntN(3) == 0 {
		cfg.Endpoints = slices.DeleteFunc(slices.Clone(cfg.Endpoints), func(e accesskey.Endpoint) bool { return e.Host == second.String() })
	}
	if c.Config != nil {
		c.Config(d, &cfg)
	}
	if c.Unplugged {
		alone, err := netns.NewHost("alone")
		if err != nil {
			r.Err = err
			return r
		}
		defer alone.Close()
		cfg.Dial, cfg.Addresses = dialFrom(alone), func() int { return 0 }
	}
	if r.Report, r.Err = doctor.Run(ctx, cfg); r.Err != nil {
		return r
	}
	r.Found = []doctor.Kind{}
	for _, f := range r.Report.Findings {
		if !slices.Contains(r.Found, f.Kind) {
			r.Found = append(r.Found, f.Kind)
		}
	}
	for _, k := range c.Want {
		if !slices.Contains(r.Found, k) {
			r.Missed = append(r.Missed, k)
		}
	}
	for _, k := range r.Found {
		if !slices.Contains(c.Want, k) && !slices.Contains(c.May, k) {
			r.Wrong = append(r.Wrong, k)
		}
	}
	for i, f := range r.Report.Findings {
		if c.Detail != nil && len(c.Want) == 1 && f.Kind == c.Want[0] {
			r.Detailed, r.Detail = true, c.Detail(r.Rules, &r.Report.Findings[i])
			break
		}
	}
	return r
}

// RunAll examines cases with so many seeds each, some at once, and tells each result as it comes.
func RunAll(ctx context.Context, cases []Case, seeds int, from uint64, parallel int, godwit string, tell func(*Result)) (all []Result) {
	type job struct {
		at   int
		c    Case
		seed uint64
	}
	jobs := make(chan job)
	all = make([]Result, len(cases)*seeds)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for j := range jobs {
				r := Run(ctx, j.c, j.seed, godwit)
				mu.Lock()
				all[j.at] = r
				if tell != nil {
					tell(&r)
				}
				mu.Unlock()
			}
		})
	}
	for i := range seeds { // all cases with one seed first: what is cut short is a smaller table
		for n, c := range cases {
			if ctx.Err() == nil {
				jobs <- job{n*seeds + i, c, from + uint64(i)}
			}
		}
	}
	close(jobs)
	wg.Wait()
	return all
}
