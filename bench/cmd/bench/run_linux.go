package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/result"
	"github.com/godwit-vpn/godwit/bench/internal/suite"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

// runFlags are read twice: outside the sandbox, where programs are built, and inside, where they run.
type runFlags struct {
	peers, suite, conditions, tests, out, tools, godwit, base string
	runs, parallel                                            int
	d                                                         suite.Durations
	sandbox                                                   sandboxFlag
}

func parseRun(args []string) (*runFlags, error) {
	f := &runFlags{}
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	fs.StringVar(&f.peers, "peers", "", "what to measure (default the suite's); godwit-N has N links; any of the lab's peers can be named")
	fs.StringVar(&f.suite, "suite", suite.Quick, "quick, full, transports or page")
	fs.StringVar(&f.conditions, "conditions", "", "only conditions that match one of these patterns, such as clean-*")
	fs.StringVar(&f.tests, "tests", "", "only these tests, such as down1,keystroke")
	fs.IntVar(&f.runs, "runs", 0, "how often (full 5, others 3)")
	fs.Float64Var(&f.d.Clean, "seconds", 0, "length of a bulk test on a clean path (quick and transports 1.5, full 3)")
	fs.Float64Var(&f.d.Long, "long-seconds", 0, "length of a bulk test on a long path (quick 6, transports 8, full 20)")
	fs.IntVar(&f.parallel, "parallel", 1, "peers to measure at once where the path is at most 100 Mbit/s")
	fs.StringVar(&f.out, "out", "", "directory for the results (default bench-DATE-TIME)")
	fs.StringVar(&f.tools, "tools", "", "directory of the peers' programs (default in the user's cache)")
	fs.StringVar(&f.godwit, "godwit", "", "path of the godwit program (default bin/godwit, if there)")
	fs.StringVar(&f.base, "base", "", "peer that the ratios are relative to (default wireguard, direct or hysteria2)")
	f.sandbox.bind(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected %q", fs.Arg(0))
	}
	d, runs, err := suite.Defaults(f.suite)
	if err != nil {
		return nil, err
	}
	if f.peers == "" {
		f.peers = strings.Join(suite.Peers(f.suite), ",")
	}
	if f.d.Clean == 0 {
		f.d.Clean = d.Clean
	}
	if f.d.Long == 0 {
		f.d.Long = d.Long
	}
	if f.runs == 0 {
		f.runs = runs
	}
	if f.runs < 1 || f.d.Clean < 0.1 || f.d.Long < 0.1 {
		return nil, errors.New("--runs, --seconds and --long-seconds must be positive")
	}
	if f.tools == "" {
		if f.tools, err = peer.DefaultToolsDir(); err != nil {
			return nil, err
		}
	}
	for _, p := range []string{"bin/godwit"} {
		if fi, err := os.Stat(p); f.godwit == "" && err == nil && fi.Mode().IsRegular() {
			f.godwit = p
		}
	}
	for _, p := range []*string{&f.tools, &f.godwit, &f.out} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
		if strings.HasPrefix(*p+"/", "/run/") || strings.HasPrefix(*p+"/", "/var/run/") {
			return nil, fmt.Errorf("%q: the bench hides /run from the programs it starts", *p)
		}
	}
	return f, nil
}

func (f *runFlags) entries() (entries []peer.Entry, err error) {
	for name := range strings.SplitSeq(f.peers, ",") {
		e, err := peer.Find(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(entries, func(o peer.Entry) bool { return o.Name == e.Name }) {
			return nil, fmt.Errorf("--peers has %q twice", name)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (f *runFlags) wanted() ([]suite.Condition, error) {
	all := suite.Conditions(f.suite, f.d)
	var chosen []suite.Condition
	for _, c := range all {
		ok := f.conditions == ""
		for pattern := range strings.SplitSeq(f.conditions, ",") {
			m, err := path.Match(pattern, c.Name)
			if err != nil {
				return nil, fmt.Errorf("--conditions %q: %w", pattern, err)
			}
			ok = ok || m
		}
		if f.tests != "" {
			tests := strings.Split(f.tests, ",")
			c.Tests = slices.DeleteFunc(c.Tests, func(t suite.Test) bool { return !slices.Contains(tests, t.ID) })
		}
		if ok && len(c.Tests) > 0 {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
		}
		return nil, fmt.Errorf("nothing left of suite %s, which has %s", f.suite, strings.Join(names, ", "))
	}
	return chosen, nil
}

func runCommand(ctx context.Context, args []string, inside bool) (int, error) {
	f, err := parseRun(args)
	if err != nil {
		return verbs.ExitUsage, err
	}
	entries, err := f.entries()
	if err != nil {
		return verbs.ExitUsage, err
	}
	conditions, err := f.wanted()
	if err != nil {
		return verbs.ExitUsage, err
	}
	tools := &peer.Tools{Dir: f.tools, Godwit: f.godwit, Offline: inside, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if inside && f.out == "" {
		if f.out, err = filepath.Abs("bench-" + time.Now().Format("20060102-150405")); err != nil {
			return verbs.ExitError, err
		}
	}
	if !inside {
		// Built here: inside there is no network to fetch anything from. Inside is told what is missing.
		_, skipped, err := prepare(ctx, tools, entries)
		if err != nil {
			return verbs.ExitError, err
		}
		b, err := json.Marshal(skipped)
		if err != nil {
			return verbs.ExitError, err
		}
		os.Setenv(skippedEnv, string(b))
		return f.sandbox.enter(ctx)
	}
	skipped := make(map[string]string)
	if err := json.Unmarshal([]byte(os.Getenv(skippedEnv)), &skipped); err != nil {
		return verbs.ExitError, fmt.Errorf("%s: %w", skippedEnv, err)
	}
	entries = slices.DeleteFunc(entries, func(e peer.Entry) bool { return skipped[e.Name] != "" })
	infos, lost, err := prepare(ctx, tools, entries)
	if err != nil {
		return verbs.ExitError, err
	}
	maps.Copy(skipped, lost)
	entries = slices.DeleteFunc(entries, func(e peer.Entry) bool { return skipped[e.Name] != "" })
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return verbs.ExitError, err
	}
	if old, _ := filepath.Glob(filepath.Join(f.out, "run-*.json")); len(old) > 0 {
		return verbs.ExitUsage, fmt.Errorf("--out %s holds results already", f.out)
	}
	err = suite.Run(ctx, suite.Config{
		Suite: f.suite, Conditions: conditions, Peers: entries, Infos: infos, Skipped: skipped, Tools: tools,
		Runs: f.runs, Parallel: f.parallel, Out: f.out, Sandbox: describe(), Progress: os.Stderr,
	})
	if reportErr := writeReport([]string{f.out}, f.base, f.out); err == nil {
		err = reportErr
	}
	if err == nil || ctx.Err() != nil {
		fmt.Fprintf(os.Stderr, "results in %s\n", f.out)
	}
	return 0, err
}

// skippedEnv carries from the outer to the inner program which peers are missing and why, as JSON.
const skippedEnv = "BENCH_SKIPPED"

// prepare finds or builds the peers' programs.
func prepare(ctx context.Context, tools *peer.Tools, entries []peer.Entry) (map[string]peer.Info, map[string]string, error) {
	infos, skipped := make(map[string]peer.Info), make(map[string]string)
	for _, e := range entries {
		info, err := e.Prepare(ctx, tools)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			skipped[e.Name] = err.Error()
			continue
		}
		infos[e.Name] = info
	}
	return infos, skipped, nil
}

func peersCommand(ctx context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	dir := fs.String("tools", "", "directory of the peers' programs (default in the user's cache)")
	godwit := fs.String("godwit", "", "path of the godwit program")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	var err error
	if *dir == "" {
		if *dir, err = peer.DefaultToolsDir(); err != nil {
			return verbs.ExitError, err
		}
	}
	tools := &peer.Tools{Dir: *dir, Godwit: *godwit, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	for _, name := range peer.Names() {
		e, err := peer.Find(name)
		if err != nil {
			return verbs.ExitError, err
		}
		info, err := e.Prepare(ctx, tools)
		if err != nil {
			fmt.Printf("%-17s missing: %v\n", name, err)
			continue
		}
		fmt.Printf("%-17s %s\n%17s %s\n", name, info.Version, "", info.Settings)
	}
	return 0, ctx.Err()
}

func reportCommand(_ context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	base := fs.String("base", "", "peer that the ratios are relative to (default wireguard, direct or hysteria2)")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	if fs.NArg() == 0 {
		return verbs.ExitUsage, errors.New("usage: bench report [--base PEER] DIRECTORY [DIRECTORY ...]")
	}
	return 0, writeReport(fs.Args(), *base, "")
}

// writeReport makes the tables of all directories' runs together, into a file of dir, or to the screen.
func writeReport(dirs []string, base, dir string) error {
	var runs []*result.Run
	for _, d := range dirs {
		r, err := result.Read(d)
		if err != nil {
			return err
		}
		runs = append(runs, r...)
	}
	if dir == "" {
		return result.Markdown(os.Stdout, runs, base)
	}
	out, err := os.Create(filepath.Join(dir, "report.md"))
	if err != nil {
		return err
	}
	return errors.Join(result.Markdown(io.Writer(out), runs, base), out.Close())
}
