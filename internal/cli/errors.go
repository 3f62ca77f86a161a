package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/hostnet"
	"github.com/godwit-vpn/godwit/internal/keyinput"
	"github.com/godwit-vpn/godwit/internal/local"
	"github.com/godwit-vpn/godwit/internal/rules"
	"github.com/godwit-vpn/godwit/internal/store"
)

// The exit codes, as CONTRIBUTING.md promises them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotRunning  = 3   // as systemctl status
	exitBlocked     = 4   // no transport got through
	exitRefused     = 5   // the access key was refused, has expired, or is over its quota
	exitPartly      = 6   // test, doctor: there is a way in, and something else is wrong
	exitPermission  = 77  // EX_NOPERM of sysexits.h
	exitConfig      = 78  // EX_CONFIG; service managers do not restart
	exitInterrupted = 130 // as shells say of SIGINT
)

// usageError is a wrong command line.
type usageError struct {
	command string // empty: the present one
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

// errInterrupted is a person's ^C.
var errInterrupted = errors.New("interrupted")

// blockedError says that no transport got through in time.
type blockedError struct {
	after time.Duration
	last  string // what became of the last attempt; may be empty
	hint  string // what to do, where it is not the doctor's to find out
}

func (e *blockedError) Error() string {
	s := fmt.Sprintf("no way to the gateway was found within %v", e.after)
	if e.last != "" {
		s += ": " + e.last
	}
	return s
}

// busyPortError says that an address to listen on is taken, or cannot be had for another reason.
type busyPortError struct {
	setting string // "flag --proxy", "field listen"
	addr    string
	owner   string // who has it, if we know
	err     error
}

func (e *busyPortError) Error() string {
	if errors.Is(e.err, syscall.EADDRINUSE) {
		if e.owner != "" {
			return fmt.Sprintf("%s: %s is taken by %s", e.setting, e.addr, e.owner)
		}
		return fmt.Sprintf("%s: %s is taken by another program", e.setting, e.addr)
	}
	var op *net.OpError
	err := e.err
	if errors.As(err, &op) {
		err = op.Err // without the address once more
	}
	return fmt.Sprintf("%s: %s: %v", e.setting, e.addr, err)
}
func (e *busyPortError) Unwrap() error { return e.err }

func (e *busyPortError) hint() string {
	_, port, _ := net.SplitHostPort(e.addr)
	flag := strings.TrimPrefix(e.setting, "flag ")
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		return fmt.Sprintf("end that program (see which it is: ss -ltnp 'sport = :%s'), or choose another port with %s",
			port, strings.Replace(flag, "field listen", "--listen", 1))
	case errors.Is(e.err, fs.ErrPermission):
		return "ports below 1024 are for root, or for a service with CAP_NET_BIND_SERVICE; any other port needs neither"
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: see 'ip address'"
	}
	return ""
}

// alreadyUpError says that a profile is in use by another process.
type alreadyUpError struct {
	profile string
	pid     int
	what    string // why that is a problem; may be empty
}

func (e *alreadyUpError) Error() string {
	s := fmt.Sprintf("profile %q is up already, as process %d", e.profile, e.pid)
	if e.what != "" {
		s += ", " + e.what
	}
	return s
}

// capturedError says that nothing of this user's is up, and that the machine's network is Godwit's all the same.
type capturedError struct {
	pid  int  // who carries it; 0 if nobody does any more, or if that cannot be known
	root bool // who asks may know
	err  error
}

func (e *capturedError) Error() string {
	switch {
	case e.pid != 0:
		return fmt.Sprintf("%v; process %d carries this machine's traffic", e.err, e.pid)
	case e.root:
		return fmt.Sprintf("%v; this machine's network is shut, by a process that has ended", e.err)
	}
	return fmt.Sprintf("%v; this machine's network is shut, or carried by a process of root's", e.err)
}
func (e *capturedError) Unwrap() error { return e.err }

func (e *capturedError) hint() string {
	switch {
	case e.pid != 0:
		return "it has another state directory: give it with --state-dir"
	case e.root:
		return "'sudo godwit up --tun' takes it over; 'sudo godwit rescue' opens it"
	}
	return "'sudo godwit status' tells which"
}

// reportedError is what the background process said went wrong.
type reportedError struct{ problem }

func (e *reportedError) Error() string { return e.text }

// A problem is what a person and a script are told of an error.
type problem struct {
	text string
	hint string // what to do next; may be empty
	code int
}

func (p problem) print(w io.Writer) {
	fmt.Fprintf(w, "godwit: %s\n", strings.TrimRight(p.text, "\n"))
	if p.hint != "" {
		fmt.Fprintf(w, "  → %s\n", p.hint)
	}
}

// explain is the one place that knows what an error means to a script, as an exit code, and what a person can do.
func explain(err error) problem {
	p := problem{text: err.Error(), code: exitFailure}
	var (
		usage    *usageError
		reported *reportedError
		port     *busyPortError
		up       *alreadyUpError
		key      *accesskey.ParseError
		held     *local.HeldError
		tested   *testError
		ill      *diagnosisError
		captured *capturedError
		byRoot   *rootError
		way      *portalError
		blocked  *blockedError
	)
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.As(err, &reported):
		return reported.problem
	case is(errInterrupted):
		p.code = exitInterrupted
	case errors.As(err, &usage):
		p.code = exitUsage
		if usage.command != "" {
			p.hint = fmt.Sprintf("'%s --help' shows how it is used", usage.command)
		}
	case errors.As(err, &captured):
		p.code = exitNotRunning
		p.hint = captured.hint()
	case is(local.ErrNotRunning):
		p.code = exitNotRunning
		if is(errNotUp) {
			p.hint = "'godwit up' connects; 'godwit list' shows the saved access keys"
		}
	case errors.As(err, &tested):
		p.code = tested.code()
	case errors.As(err, &ill):
		p.code = ill.code()
	case errors.As(err, &blocked) && blocked.hint != "":
		p.code, p.hint = exitBlocked, blocked.hint
	case errors.As(err, &blocked):
		p.code = exitBlocked
		p.hint = "check that this machine is online; if it is, the network blocks the gateway or the gateway is down: " +
			"'godwit doctor' finds out which, and '--log-level debug --foreground' shows every attempt"
	case is(client.ErrRefused):
		p.code = exitRefused
		p.hint = "ask whoever gave you the access key: they see keys and devices with 'godwit key list'"
	case errors.As(err, &port):
		p.hint = port.hint()
		if is(fs.ErrPermission) {
			p.code = exitPermission
		}
	case errors.As(err, &up):
		p.hint = fmt.Sprintf("'godwit down --profile %s' ends it; a second tunnel needs another --profile and --proxy",
			up.profile)
	case errors.As(err, new(*hostnet.HeldError)):
		p.hint = "one process at a time carries a machine's traffic: 'sudo godwit down' ends that one"
	case errors.As(err, &byRoot):
		p.code = exitPermission
		p.hint = "try: sudo godwit " + byRoot.command
		if runtime.GOOS == "windows" {
			p.hint = "try it in an administrator's prompt"
		}
	case errors.As(err, &way):
		p.hint = way.hint()
	case errors.As(err, &held):
		p.hint = "end that one first"
	case errors.As(err, &key):
		p.hint = key.Hint
	case is(keyinput.ErrNoKey):
		p.code = exitUsage
		p.hint = "the key is the text that begins with godwit://, in single quotes"
	case is(control.ErrBadName, control.ErrBadMaxDevices, control.ErrBadLimit, control.ErrBadExpiry,
		control.ErrBadDeviceID):
		p.code = exitUsage
	case is(gatewaydir.ErrNotInitialised, control.ErrNoSecrets):
		p.code = exitConfig
	case is(gatewaydir.ErrSettings, control.ErrSecretsLost, store.ErrNewer, store.ErrNotDatabase, store.ErrCorrupt):
		p.code = exitConfig
	case errors.As(err, new(*rules.Error)):
		p.code = exitConfig
	case is(secretfile.ErrExposed):
		p.code = exitPermission
	case is(secretfile.ErrFormat):
		p.code = exitConfig
	case is(syscall.ENOSPC, store.ErrFull):
		p.hint = "the disk is full: free some space, and try again"
	case is(store.ErrDisk): // SQLite says so too where there is no room for its index of the log
		p.hint = "perhaps the disk is full: 'df' tells"
	case is(fs.ErrPermission, syscall.EROFS, store.ErrUnwritable):
		p.code = exitPermission
		p.hint = "run it as the user who owns the directory, or choose another one with --state-dir"
	case is(context.DeadlineExceeded):
		p.hint = "it took too long: try again"
	}
	return p
}

// rootError says that a command is for root. err, if not nil, is what became of trying without.
type rootError struct {
	text, command string
	err           error
}

func (e *rootError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

func (e *rootError) Unwrap() error { return e.err }
