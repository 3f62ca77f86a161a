// Package verbs is the main function of a program that has subcommands, some of which run again in a netns.Sandbox.
package verbs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// Exit codes.
const (
	ExitError       = 1
	ExitUsage       = 2
	ExitInterrupted = 130
)

// A Verb does a subcommand with its arguments, and returns the exit code: at least ExitError with an error. Inside says that
// this is the program in the sandbox.
type Verb func(ctx context.Context, args []string, inside bool) (code int, err error)

// Main dispatches and ends the process. The main thread must be locked to the main goroutine, from an init function on:
// processes are told to die with the thread that started them, so that thread must last, and hosts must never get it.
func Main(usage string, verbs map[string]Verb) {
	name := filepath.Base(os.Args[0])
	args, inside, err := netns.Enter(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(ExitError)
	}
	os.Exit(dispatch(name, usage, verbs, args, inside))
}

func dispatch(name, usage string, verbs map[string]Verb, args []string, inside bool) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return ExitUsage
	}
	// In the outer program of a sandbox, signals are passed on instead.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After a first signal a verb has ten seconds to tidy up; the kernel does the rest when it is gone.
	context.AfterFunc(ctx, func() {
		time.AfterFunc(10*time.Second, func() { os.Exit(ExitInterrupted) })
	})
	verb := verbs[args[0]]
	if verb == nil {
		fmt.Fprintf(os.Stderr, "%s: no command %q\n\n%s", name, args[0], usage)
		return ExitUsage
	}
	code, err := verb(ctx, args[1:], inside)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintf(os.Stderr, "%s: interrupted\n", name)
		return ExitInterrupted
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return max(code, ExitError)
	}
	return code
}
