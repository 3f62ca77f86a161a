// Command lab asks who survives which firewall, in namespaces of its own. docs/lab.md says how.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

const usage = `usage: lab COMMAND [flags]

  run        put ways across before firewalls and write the table of who survives
  weather    have Godwit carry traffic while firewalls change their rules, each by a seed
  stalls     measure how long a download stands still when what carries it is struck
  limits     measure a download where every connection is policed, or frozen after a few packets
  doctor     ask whether "godwit doctor" names what firewalls do, rule by rule
  report     make the table again from the JSON of one or more runs
  profiles   list the firewalls; with a name, or a file, tell its story and check it
  peers      list the ways across and whether their programs are here; --build builds what can be built

lab COMMAND --help lists a command's flags.
`

// exitLies says that the lab contradicts itself: a profile let pass what it must stop.
const exitLies = 3

func init() {
	// The main thread stays with the main goroutine: processes are told to die with the thread that started them, so
	// that thread must last, and hosts must never get this one.
	runtime.LockOSThread()
}

func main() {
	verbs.Main(usage, map[string]verbs.Verb{
		"run": runCommand, "report": reportCommand, "profiles": profilesCommand, "peers": peersCommand,
		"weather": weatherCommand, "stalls": stallsCommand, "limits": limitsCommand,
		"doctor": doctorCommand,
	})
}

// enter runs this program again inside a sandbox, with the arguments it was given: in a user namespace, so that whatever
// it does it can do nothing to the machine; where those are off, as root in namespaces all the same.
func enter(ctx context.Context) (int, error) {
	err := netns.UserNamespaces()
	if err == nil {
		return netns.Sandbox(ctx, netns.SandboxConfig{UserNamespace: true}, os.Args[1:])
	}
	if os.Geteuid() != 0 {
		return verbs.ExitError, fmt.Errorf("no user namespaces here (%w): run as root", err)
	}
	return netns.Sandbox(ctx, netns.SandboxConfig{}, os.Args[1:])
}
