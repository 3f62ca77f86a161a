package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

func targetCommand(ctx context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("target", flag.ContinueOnError)
	control := fs.String("control", "", "path of a unix socket that tells what was uploaded")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	if fs.NArg() != 1 || *control == "" {
		return verbs.ExitUsage, fmt.Errorf("usage: bench target --control PATH ADDRESS")
	}
	return 0, load.Target(ctx, fs.Arg(0), *control, func() { fmt.Println("ready") })
}

func loadCommand(ctx context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	cfg := load.Config{Processes: load.Processes{}}
	fs.StringVar(&cfg.Proxy, "proxy", "", "host:port of a SOCKS5 server; empty connects straight")
	fs.StringVar(&cfg.Target, "target", "", "address of a bench target")
	fs.StringVar(&cfg.Control, "control", "", "path of the target's unix socket (for --test up)")
	fs.Var(cfg.Processes, "process", "role=pid of a process group whose CPU time to take; repeat")
	var spec load.Spec
	spec.Bind(fs)
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	res, err := load.Run(ctx, cfg, spec)
	if err != nil {
		return verbs.ExitError, err
	}
	return 0, json.NewEncoder(os.Stdout).Encode(res)
}

// keepCCCommand becomes another program. The thread that it confines is the one that goes on; main holds it.
func keepCCCommand(_ context.Context, args []string, _ bool) (int, error) {
	if len(args) == 0 {
		return verbs.ExitUsage, fmt.Errorf("usage: bench keepcc PROGRAM [ARGUMENTS]")
	}
	if err := topology.KeepCC(); err != nil {
		return verbs.ExitError, err
	}
	return verbs.ExitError, fmt.Errorf("%s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// linkCommand prints a line when the path carries frames, and on a signal what it did, as JSON. SIGHUP prints, too.
func linkCommand(ctx context.Context, args []string, _ bool) (int, error) {
	fs := flag.NewFlagSet("link", flag.ContinueOnError)
	text := fs.String("spec", "{}", "linkmodel.Spec as JSON")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	if fs.NArg() != 2 {
		return verbs.ExitUsage, fmt.Errorf("usage: bench link --spec JSON INTERFACE INTERFACE")
	}
	var spec linkmodel.Spec
	if err := json.Unmarshal([]byte(*text), &spec); err != nil {
		return verbs.ExitUsage, fmt.Errorf("--spec: %w", err)
	}
	moreProcs()
	// There is next to no garbage, and a collection would stop frames until every thread got its turn.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(2 << 30)
	// Frames lie still for a while: where it is allowed, they are not to be swapped out meanwhile.
	unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	f, err := linkmodel.Open(fs.Arg(0), fs.Arg(1), spec)
	if err != nil {
		return verbs.ExitError, err
	}
	f.Realtime = true
	fmt.Println("ready")
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			printStats(f)
		}
	}()
	if err := f.Run(ctx); err != nil {
		return verbs.ExitError, err
	}
	return 0, printStats(f)
}

func printStats(f *linkmodel.Forwarder) error {
	forward, backward := f.Stats()
	return json.NewEncoder(os.Stdout).Encode(map[string]linkmodel.Stats{"up": forward, "down": backward})
}
