package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/scenario"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

// skippedEnv carries from the outer to the inner program which peers are missing and why, as JSON.
const skippedEnv = "LAB_SKIPPED"

func runCommand(ctx context.Context, args []string, inside bool) (int, error) {
	var cfg scenario.Config
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	profiles := fs.String("profiles", strings.Join(profile.Names(), ","), "firewalls, by name or file")
	peers := fs.String("peers", strings.Join(peer.Names(), ","), "ways across")
	scenarios := fs.String("scenarios", strings.Join(scenario.Scenarios(), ","), "scenarios")
	godwit := fs.String("godwit", "bin/godwit", "path of the godwit program")
	out := fs.String("out", "", "directory for survival.md, survival.html, survival.json and captures (default lab-results)")
	with := fs.Bool("add", false, "put what is found into the report that is in --out already")
	fs.IntVar(&cfg.Seeds, "seeds", 1, "runs of each cell of reach, each with another seed")
	fs.Uint64Var(&cfg.Seed, "seed", 1, "the first one's seed")
	fs.Int64Var(&cfg.HoldMB, "hold-mb", 200, "size of the download in hold, in MiB")
	fs.BoolVar(&cfg.Replays, "replays", true, "add rows of recorded packets, for what no program runs here")
	fs.IntVar(&cfg.Parallel, "parallel", 1, "cells at once: survival is measured, not speed, but a busy machine is a slow path")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	if fs.NArg() > 0 {
		return verbs.ExitUsage, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *out == "" {
		*out = "lab-results"
	}
	cfg.Profiles, cfg.Scenarios, cfg.Progress = strings.Split(*profiles, ","), strings.Split(*scenarios, ","), os.Stderr
	for _, name := range cfg.Profiles {
		if _, err := profile.Load(name); err != nil {
			return verbs.ExitUsage, err
		}
	}
	for name := range strings.SplitSeq(*peers, ",") {
		e, err := peer.Find(name)
		if err != nil {
			return verbs.ExitUsage, err
		}
		if slices.ContainsFunc(cfg.Peers, func(o peer.Entry) bool { return o.Name == e.Name }) {
			return verbs.ExitUsage, fmt.Errorf("--peers has %q twice", name)
		}
		cfg.Peers = append(cfg.Peers, e)
	}
	var err error
	// Nothing is built here, which takes minutes: "lab peers --build" does.
	if cfg.Tools, err = newTools(*godwit, true); err != nil {
		return verbs.ExitError, err
	}
	if !inside {
		skipped := make(map[string]string)
		for _, e := range cfg.Peers {
			if _, err := e.Prepare(ctx, cfg.Tools); err != nil {
				skipped[e.Name] = err.Error()
			}
		}
		b, err := json.Marshal(skipped)
		if err != nil {
			return verbs.ExitError, err
		}
		os.Setenv(skippedEnv, string(b))
		return enter(ctx)
	}
	if err := json.Unmarshal([]byte(os.Getenv(skippedEnv)), &cfg.Skipped); err != nil {
		return verbs.ExitError, fmt.Errorf("%s: %w", skippedEnv, err)
	}
	cfg.Infos = make(map[string]peer.Info)
	for _, e := range cfg.Peers {
		if cfg.Skipped[e.Name] == "" {
			if cfg.Infos[e.Name], err = e.Prepare(ctx, cfg.Tools); err != nil {
				cfg.Skipped[e.Name] = err.Error()
			}
		}
	}
	if cfg.Captures = filepath.Join(*out, "captures"); *out != "" {
		if err := os.MkdirAll(cfg.Captures, 0o755); err != nil {
			return verbs.ExitError, err
		}
	}
	report, err := scenario.Run(ctx, cfg)
	if report == nil {
		return verbs.ExitError, err
	}
	if *with {
		old, readErr := survival.Read(filepath.Join(*out, "survival.json"))
		if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
			return verbs.ExitError, readErr
		}
		if old != nil {
			old.Add(report)
			report = old
		}
	}
	if writeErr := writeReport(report, *out); writeErr != nil {
		return verbs.ExitError, errors.Join(err, writeErr)
	}
	fmt.Fprintf(os.Stderr, "the table is in %s\n", filepath.Join(*out, "survival.md"))
	if err != nil {
		return verbs.ExitError, err
	}
	if lies := report.Lies(); len(lies) > 0 {
		for _, l := range lies {
			fmt.Fprintf(os.Stderr, "the lab contradicts itself: %s\n", l)
		}
		return exitLies, nil
	}
	return 0, nil
}
