// Command bench measures Godwit and its peers side by side, in network namespaces of its own. README.md says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

const usage = `usage: bench COMMAND [flags]

  run        measure peers side by side, write JSON and a table
  report     make the table again from the JSON of one or more directories
  linkcheck  compare the link model with what it promises
  peers      build the peers' programs and list them

Used by run on its hosts, and of use by hand:

  target     the services that load measures against
  load       one measurement, straight or through a SOCKS5 proxy
  link       the link model between two interfaces
  keepcc     another program, which may not choose its congestion control

bench COMMAND --help lists a command's flags.
`

func init() {
	// The main thread stays with the main goroutine: processes are told to die with the thread that started them, so
	// that thread must last, and hosts must never get this one.
	runtime.LockOSThread()
}

func main() {
	verbs.Main(usage, map[string]verbs.Verb{
		"run": runCommand, "report": reportCommand, "linkcheck": linkcheckCommand, "peers": peersCommand,
		"target": targetCommand, "load": loadCommand, "link": linkCommand,
		"keepcc": keepCCCommand,
	})
}

// sandboxFlag chooses how namespaces are made.
type sandboxFlag struct{ mode string }

func (f *sandboxFlag) bind(fs *flag.FlagSet) {
	fs.StringVar(&f.mode, "userns", "auto", "isolate in a user namespace too: always, never (needs root), or auto, which is never for root")
}

// enter runs this program again inside a sandbox, with the arguments it was given. Root goes without a user namespace,
// because inside one it loses what lets the link model keep time on a busy machine; where that is refused, with one.
func (f *sandboxFlag) enter(ctx context.Context) (int, error) {
	if f.mode != "auto" && f.mode != "always" && f.mode != "never" {
		return verbs.ExitUsage, fmt.Errorf("--userns %q: want auto, always or never", f.mode)
	}
	root := os.Geteuid() == 0
	if f.mode == "never" && !root {
		return verbs.ExitUsage, errors.New("--userns never: only root can do without a user namespace")
	}
	if root && f.mode != "always" {
		code, err := netns.Sandbox(ctx, netns.SandboxConfig{}, os.Args[1:])
		if f.mode == "never" || !errors.Is(err, os.ErrPermission) {
			return code, err
		}
	}
	if err := netns.UserNamespaces(); err != nil {
		return verbs.ExitError, fmt.Errorf("no user namespaces here (%w): run as root", err)
	}
	return netns.Sandbox(ctx, netns.SandboxConfig{UserNamespace: true}, os.Args[1:])
}

// describe says inside how the sandbox is.
func describe() string {
	s := "in new network, mount and process namespaces"
	if os.Getpid() != 1 {
		s = "in new network and mount namespaces"
	}
	if b, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		var in, out, size uint64
		if n, _ := fmt.Sscan(string(b), &in, &out, &size); n == 3 && size < 1<<32-1 {
			return s + " of a user namespace"
		}
	}
	return s + ", as root"
}
