package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall/rules"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/scenario"
	"github.com/godwit-vpn/godwit/lab/verbs"
	"github.com/godwit-vpn/godwit/lab/weather"
)

// weatherFlags are what both verbs have.
type weatherFlags struct {
	fs          *flag.FlagSet
	godwit, out *string
	logs        *string
	parallel    *int
	first       *uint64
	tun         *bool
}

func newWeatherFlags(name string, parallel int) weatherFlags {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	return weatherFlags{fs,
		fs.String("godwit", "bin/godwit", "path of the godwit program"),
		fs.String("out", "lab-results", "directory of weather.md and weather.json; what is there already and not measured again is kept"),
		fs.String("logs", "", "directory for what both ends say"),
		fs.Int("parallel", parallel, "how many at once: some twenty to a processor"),
		fs.Uint64("first", 1, "the first seed"),
		fs.Bool("tun", false, "have the client's whole host captured; what is found stands beside what is found without"),
	}
}

// parse also enters the sandbox: done says that it has been there.
func (f weatherFlags) parse(ctx context.Context, args []string, inside bool) (tools *peer.Tools, done bool, code int, err error) {
	if err := f.fs.Parse(args); err != nil {
		return nil, true, verbs.ExitUsage, err
	}
	if f.fs.NArg() > 0 {
		return nil, true, verbs.ExitUsage, fmt.Errorf("unexpected argument %q", f.fs.Arg(0))
	}
	if *f.parallel < 1 {
		return nil, true, verbs.ExitUsage, fmt.Errorf("--parallel %d: want one at least", *f.parallel)
	}
	tools, err = newTools(*f.godwit, true)
	switch {
	case err != nil:
		return nil, true, verbs.ExitError, err
	case tools.Godwit == "":
		return nil, true, verbs.ExitUsage, fmt.Errorf("--godwit %s: no program there: make build", *f.godwit)
	}
	if !inside {
		code, err = enter(ctx)
		return nil, true, code, err
	}
	return tools, false, 0, nil
}

// each does n things, so many at once, each with its directory for logs.
func (f weatherFlags) each(n int, name func(i int) string, do func(i int, logs string) error) error {
	// Each firewall is two threads that sleep in the kernel most of the time, which Go counts as running.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2*min(n, *f.parallel)))
	errs := make([]error, n)
	room := make(chan struct{}, *f.parallel)
	var wg sync.WaitGroup
	for i := range n {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			logs := ""
			if *f.logs != "" {
				logs = filepath.Join(*f.logs, name(i))
				if errs[i] = os.MkdirAll(logs, 0o755); errs[i] != nil {
					return
				}
			}
			if err := do(i, logs); err != nil {
				errs[i] = fmt.Errorf("%s: %w", name(i), err)
				fmt.Fprintln(os.Stderr, errs[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// write puts what was found into the report that is there.
func (f weatherFlags) write(ctx context.Context, tools *peer.Tools, put func(*weather.Report)) error {
	r, err := weather.Read(filepath.Join(*f.out, "weather.json"))
	if err != nil {
		return err
	}
	e, err := peer.Find("godwit")
	if err != nil {
		return err
	}
	info, err := e.Prepare(ctx, tools)
	if err != nil {
		return err
	}
	r.Date, r.Machine, r.Version = time.Now().UTC().Format(time.DateOnly), scenario.Machine(), info.Version
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscan(string(b), new(float64), new(float64), &r.Load)
	}
	put(r)
	return r.Write(*f.out)
}

func weatherCommand(ctx context.Context, args []string, inside bool) (int, error) {
	f := newWeatherFlags("weather", 10)
	seeds := f.fs.Int("seeds", 50, "how many seeds")
	minutes := f.fs.Float64("minutes", 10, "how long each")
	tools, done, code, err := f.parse(ctx, args, inside)
	if done {
		return code, err
	}
	runs := make([]*weather.Run, *seeds)
	failed := f.each(*seeds, func(i int) string { return fmt.Sprintf("seed %d", *f.first+uint64(i)) }, func(i int, logs string) error {
		w := scenario.Weather{Seed: *f.first + uint64(i), Length: time.Duration(*minutes * float64(time.Minute)), TUN: *f.tun, Tools: tools, Logs: logs}
		r, err := w.Run(ctx)
		if err == nil {
			runs[i] = &r
			fmt.Fprintf(os.Stderr, "seed %d: %d echoes, %d downloads, %d dials: %q\n", r.Seed, r.Echoes, r.Downloads, len(r.Dials), r.Faults())
		}
		return err
	})
	faults := 0
	err = f.write(ctx, tools, func(report *weather.Report) {
		for _, r := range runs {
			if r != nil {
				faults += len(r.Faults())
				report.Runs = append(slices.DeleteFunc(report.Runs, func(old weather.Run) bool { return old.Seed == r.Seed && old.TUN == r.TUN }), *r)
			}
		}
	})
	if err := errors.Join(failed, err); err != nil {
		return verbs.ExitError, err
	}
	if faults > 0 {
		return verbs.ExitError, fmt.Errorf("%d faults: %s lists them", faults, filepath.Join(*f.out, "weather.md"))
	}
	return 0, nil
}

func stallsCommand(ctx context.Context, args []string, inside bool) (int, error) {
	f := newWeatherFlags("stalls", 8)
	blows := f.fs.Int("blows", 30, "how many of each kind")
	tools, done, code, err := f.parse(ctx, args, inside)
	if done {
		return code, err
	}
	var all []scenario.Stalls
	for _, mood := range []rules.Mood{rules.ResetBulk, rules.LoseConnection, rules.LoseEndpoint, rules.LoseAddress} {
		for _, alone := range []bool{false, true} {
			if alone && *f.tun { // how many links there are is not the capture's business
				continue
			}
			all = append(all, scenario.Stalls{Mood: mood, Alone: alone, TUN: *f.tun, Blows: *blows, Seed: *f.first, Tools: tools})
		}
	}
	found := make([]*weather.Stalls, len(all))
	name := func(i int) string {
		if all[i].Alone {
			return all[i].Mood.String() + ", one link"
		}
		return all[i].Mood.String()
	}
	failed := f.each(len(all), name, func(i int, logs string) error {
		all[i].Logs = logs
		r, err := all[i].Run(ctx)
		if err == nil {
			found[i] = &r
			fmt.Fprintf(os.Stderr, "%s: %d blows, %q\n", name(i), len(r.Each), r.Broken)
		}
		return err
	})
	err = f.write(ctx, tools, func(report *weather.Report) {
		for _, r := range found {
			if r != nil {
				report.Stalls = append(slices.DeleteFunc(report.Stalls, func(old weather.Stalls) bool {
					return old.Blow == r.Blow && old.Links == r.Links && old.TUN == r.TUN
				}), *r)
			}
		}
	})
	if err := errors.Join(failed, err); err != nil {
		return verbs.ExitError, err
	}
	return 0, nil
}

func limitsCommand(ctx context.Context, args []string, inside bool) (int, error) {
	f := newWeatherFlags("limits", 8)
	minutes := f.fs.Float64("minutes", 5, "how long each")
	tools, done, code, err := f.parse(ctx, args, inside)
	if done {
		return code, err
	}
	all := []scenario.Limits{{}, {Rate: 130e3}, {Rate: 1e6}, {Rate: 1e6, Together: true}}
	for i := range all {
		all[i].Length, all[i].Seed, all[i].TUN, all[i].Tools = time.Duration(*minutes*float64(time.Minute)), *f.first, *f.tun, tools
	}
	found := make([]*weather.Limit, len(all))
	failed := f.each(len(all), func(i int) string { return all[i].Name() }, func(i int, logs string) error {
		all[i].Logs = logs
		r, err := all[i].Run(ctx)
		if err == nil {
			found[i] = &r
			fmt.Fprintf(os.Stderr, "%s: %d KiB, %d dials, %q\n", r.Name(), r.Bytes>>10, len(r.Dials), r.Broken)
		}
		return err
	})
	err = f.write(ctx, tools, func(report *weather.Report) {
		for _, r := range found {
			if r != nil {
				report.Limits = append(slices.DeleteFunc(report.Limits, func(old weather.Limit) bool { return old.Name() == r.Name() }), *r)
			}
		}
	})
	if err := errors.Join(failed, err); err != nil {
		return verbs.ExitError, err
	}
	return 0, nil
}
