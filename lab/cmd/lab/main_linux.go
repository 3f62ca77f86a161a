// Command lab asks who survives which firewall, in namespaces of its own. docs/lab.md says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
)

const usage = `usage: lab COMMAND [flags]

  run        put ways across before firewalls and write the table of who survives
  report     make the table again from the JSON of one or more runs
  profiles   list the firewalls; with a name, or a file, tell its story and check it
  peers      list the ways across and whether their programs are here; --build builds what can be built

lab COMMAND --help lists a command's flags.
`

// Exit codes.
const (
	exitError       = 1
	exitUsage       = 2
	exitLies        = 3 // the lab contradicts itself: a profile let pass what it must stop
	exitInterrupted = 130
)

func init() {
	// The main thread stays with the main goroutine: processes are told to die with the thread that started them, so
	// that thread must last, and hosts must never get this one.
	runtime.LockOSThread()
}

func main() {
	args, inside, err := netns.Enter(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		os.Exit(exitError)
	}
	os.Exit(dispatch(args, inside))
}

func dispatch(args []string, inside bool) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	// In the outer program of a sandbox, signals are passed on instead.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After a first signal a command has ten seconds to tidy up; the kernel does the rest when it is gone.
	context.AfterFunc(ctx, func() {
		time.AfterFunc(10*time.Second, func() { os.Exit(exitInterrupted) })
	})
	commands := map[string]func(context.Context, []string, bool) (int, error){
		"run": runCommand, "report": reportCommand, "profiles": profilesCommand, "peers": peersCommand,
	}
	command := commands[args[0]]
	if command == nil {
		fmt.Fprintf(os.Stderr, "lab: no command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	code, err := command(ctx, args[1:], inside)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "lab: interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return max(code, exitError)
	}
	return code
}

// enter runs this program again inside a sandbox, with the arguments it was given: in a user namespace, so that whatever
// it does it can do nothing to the machine; where those are off, as root in namespaces all the same.
func enter(ctx context.Context) (int, error) {
	err := netns.UserNamespaces()
	if err == nil {
		return netns.Sandbox(ctx, netns.SandboxConfig{UserNamespace: true}, os.Args[1:])
	}
	if os.Geteuid() != 0 {
		return exitError, fmt.Errorf("no user namespaces here (%w): run as root", err)
	}
	return netns.Sandbox(ctx, netns.SandboxConfig{}, os.Args[1:])
}
