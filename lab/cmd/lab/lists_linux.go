package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

func profilesCommand(_ context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("profiles", flag.ContinueOnError)
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	names := fs.Args()
	if len(names) == 0 {
		names = profile.Names()
	}
	for _, name := range names {
		p, err := profile.Load(name)
		if err != nil {
			return verbs.ExitUsage, err
		}
		fmt.Printf("%s\n\n%s\n\n", p.Name, strings.TrimSpace(p.Story))
		for _, line := range p.Describe() {
			fmt.Printf("  %s\n", line)
		}
		fmt.Printf("  must stop %s\n", strings.Join(p.MustStop, ", "))
		for _, s := range p.Sources {
			fmt.Printf("  after %s\n", s)
		}
		fmt.Println()
	}
	return 0, nil
}

func peersCommand(ctx context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	build := fs.Bool("build", false, "build what is not here and can be built; takes minutes, once")
	godwit := fs.String("godwit", "bin/godwit", "path of the godwit program")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	tools, err := newTools(*godwit, !*build)
	if err != nil {
		return verbs.ExitError, err
	}
	missing := 0
	for _, e := range peer.Entries() {
		info, err := e.Prepare(ctx, tools)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			missing++
			fmt.Printf("%-18s missing: %v\n", e.Name, err)
			continue
		}
		fmt.Printf("%-18s %s\n", e.Name, info.Version)
	}
	if missing > 0 {
		fmt.Printf("\n%d missing: as root 'tests/packages --lab' installs Debian's, 'lab peers --build' builds the others\n", missing)
	}
	return 0, nil
}

// newTools finds the peers' programs.
func newTools(godwit string, offline bool) (*peer.Tools, error) {
	dir, err := peer.DefaultToolsDir()
	if err != nil {
		return nil, err
	}
	t := &peer.Tools{Dir: dir, Offline: offline, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if fi, err := os.Stat(godwit); err == nil && fi.Mode().IsRegular() {
		if t.Godwit, err = filepath.Abs(godwit); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func reportCommand(_ context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	out := fs.String("out", ".", "directory for survival.md, survival.html and survival.json")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	if fs.NArg() == 0 {
		return verbs.ExitUsage, errors.New("usage: lab report [--out DIRECTORY] FILE.json... (later ones go before earlier ones)")
	}
	var all *survival.Report
	for _, path := range fs.Args() {
		r, err := survival.Read(path)
		if err != nil {
			return verbs.ExitUsage, err
		}
		if all == nil {
			all = r
		} else {
			all.Add(r)
		}
	}
	return 0, writeReport(all, *out)
}

// writeReport writes the table in its three forms.
func writeReport(r *survival.Report, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	md, err := os.Create(filepath.Join(dir, "survival.md"))
	if err != nil {
		return err
	}
	html, err := os.Create(filepath.Join(dir, "survival.html"))
	if err != nil {
		return errors.Join(err, md.Close())
	}
	return errors.Join(r.Markdown(md), md.Close(), r.HTML(html), html.Close(), r.Write(filepath.Join(dir, "survival.json")))
}
