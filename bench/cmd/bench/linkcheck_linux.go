package main

import (
	"context"
	"flag"
	"os"
	"runtime"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/linkcheck"
	"github.com/godwit-vpn/godwit/bench/internal/suite"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

// moreProcs lets the kernel rather than Go's scheduler decide who runs: a forwarder that comes back from its sleep must
// not wait for a processor token that a busy goroutine holds for 10 ms.
func moreProcs() { runtime.GOMAXPROCS(runtime.NumCPU() + 6) }

func linkcheckCommand(ctx context.Context, args []string, inside bool) (int, error) {
	fs := flag.NewFlagSet("linkcheck", flag.ContinueOnError)
	var d linkmodel.Direction
	fs.DurationVar(&d.Delay, "delay", 100*time.Millisecond, "one way")
	fs.DurationVar(&d.Jitter, "jitter", 0, "one way, at most, on top of delay")
	rate := fs.Float64("rate", 100, "Mbit/s; 0 is no limit")
	fs.DurationVar(&d.QueueTime, "queue", 50*time.Millisecond, "before the bottleneck")
	fs.Float64Var(&d.Loss, "loss", 0.01, "each way, 0 to 1")
	fs.Float64Var(&d.Duplicate, "duplicate", 0, "each way, 0 to 1")
	seconds := fs.Float64("seconds", 5, "of each test")
	var sandbox sandboxFlag
	sandbox.bind(fs)
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	d.Rate = int64(*rate * 1e6)
	if err := linkmodel.Symmetric(d, 1).Validate(); err != nil {
		return verbs.ExitUsage, err
	}
	if !inside {
		return sandbox.enter(ctx)
	}
	moreProcs()
	rep, err := linkcheck.Run(ctx, d, time.Duration(*seconds*float64(time.Second)), startLink)
	if err != nil {
		return verbs.ExitError, err
	}
	return 0, rep.Print(os.Stdout)
}

func startLink(n *topology.Net, spec linkmodel.Spec) (func() (up, down linkmodel.Stats, err error), error) {
	l, err := suite.StartLink(n, spec)
	if err != nil {
		return nil, err
	}
	return func() (up, down linkmodel.Stats, err error) {
		stats, err := l.Stop()
		return stats["up"], stats["down"], err
	}, nil
}
