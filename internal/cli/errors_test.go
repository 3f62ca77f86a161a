package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/hostnet"
	"github.com/godwit-vpn/godwit/internal/keyinput"
	"github.com/godwit-vpn/godwit/internal/local"
	"github.com/godwit-vpn/godwit/internal/portal"
	"github.com/godwit-vpn/godwit/internal/store"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	path := func(err error) error { return &fs.PathError{Op: "open", Path: "/x", Err: err} }
	for _, tt := range []struct {
		err  error
		code int
		hint string // a part of it
	}{
		{errors.New("anything"), 1, ""},
		{usagef("flag --x: bad"), 2, ""},
		{&usageError{"godwit up", errors.New("x")}, 2, "godwit up --help"},
		{keyinput.ErrNoKey, 2, "single quotes"},
		{control.ErrBadName, 2, ""},
		{local.ErrNotRunning, 3, ""},
		{fmt.Errorf("profile %q is %w", "x", errNotUp), 3, "godwit up"},
		{&blockedError{after: time.Second}, 4, "online"},
		{&blockedError{after: time.Second, hint: "godwit portal"}, 4, "godwit portal"},
		{&portalError{portal.ErrNone.Error()}, 1, "godwit doctor"},
		{&portalError{errPortalConnected.Error()}, 1, ""},
		{&portalError{"this network does not answer"}, 1, "--open"},
		{fmt.Errorf("%w: x", client.ErrRefused), 5, "whoever gave you"},
		{path(syscall.EACCES), 77, "--state-dir"},
		{path(syscall.EROFS), 77, "--state-dir"},
		{store.ErrUnwritable, 77, "--state-dir"},
		{secretfile.ErrExposed, 77, ""},
		{&busyPortError{"field listen", ":443", "", os.NewSyscallError("bind", syscall.EACCES)}, 77, "root"},
		{&busyPortError{"field listen", ":443", "", os.NewSyscallError("bind", syscall.EADDRINUSE)}, 1, "ss -ltnp"},
		{gatewaydir.ErrSettings, 78, ""},
		{gatewaydir.ErrNotInitialised, 78, ""},
		{control.ErrSecretsLost, 78, ""},
		{store.ErrNewer, 78, ""},
		{path(syscall.ENOSPC), 1, "disk is full"},
		{store.ErrFull, 1, "disk is full"},
		{&accesskey.ParseError{Kind: accesskey.ErrMangled, Hint: "ask again"}, 1, "ask again"},
		{&alreadyUpError{profile: "home", pid: 7}, 1, "godwit down --profile home"},
		{&local.HeldError{PID: 7}, 1, "end that one"},
		{&hostnet.HeldError{PID: 7}, 1, "godwit down"},
		{&rootError{"x", "up --tun", fs.ErrPermission}, 77, "sudo godwit up --tun"},
		{&capturedError{err: errNotUp, root: true}, 3, "godwit rescue"},
		{&capturedError{err: errNotUp}, 3, "sudo godwit status"},
		{&capturedError{err: errNotUp, root: true, pid: 7}, 3, "--state-dir"},
		{&rootError{text: "x", command: "service install"}, 77, "sudo godwit service install"},
		{errInterrupted, 130, ""},
		{&reportedError{problem{text: "x", hint: "y", code: 5}}, 5, "y"},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("doing something: %w", tt.err)} {
			p := explain(err)
			if p.code != tt.code || !strings.Contains(p.hint, tt.hint) || tt.hint == "" && p.hint != "" {
				t.Errorf("%v: code %d, hint %q; want %d, %q", err, p.code, p.hint, tt.code, tt.hint)
			}
		}
	}
}

// A bug does not look like a mistake of the person's, and does not end like success.
func TestPanic(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	a := &app{stdout: &screen{w: &stderr}, stderr: &screen{w: &stderr}, env: func(string) string { return "" }}
	a.stdin = nil
	cmd := a.root()
	cmd.AddCommand(&cobra.Command{Use: "break", Run: func(*cobra.Command, []string) { panic("broken") }})
	func() {
		code := exitOK
		defer func() {
			if code != exitFailure || !strings.Contains(stderr.String(), "bug in Godwit") ||
				!strings.Contains(stderr.String(), "goroutine ") {
				t.Errorf("code %d:\n%s", code, &stderr)
			}
		}()
		code = a.execute(t.Context(), cmd, []string{"break"})
	}()
}

// Interrupted is what a person is told who interrupts, not which of our contexts ended.
func TestInterruptedCommand(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	a := &app{stdout: &screen{w: &stderr}, stderr: &screen{w: &stderr}, env: func(string) string { return "" }}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(signalled{os.Interrupt})
	if code := a.run(ctx, []string{"demo", "--once"}); code != exitInterrupted || !strings.Contains(stderr.String(),
		"interrupted") {
		t.Errorf("code %d:\n%s", code, &stderr)
	}
}

func TestBusyPortText(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = net.Listen("tcp", l.Addr().String())
	got := explain(portError("field listen", fmt.Errorf("field listen: %w", err)))
	if want := "field listen: " + l.Addr().String() + " is taken by another program"; got.text != want {
		t.Errorf("text %q, want %q", got.text, want)
	}
	if !strings.Contains(got.hint, "--listen") {
		t.Errorf("hint %q does not name the flag", got.hint)
	}
	_, err = net.Listen("tcp", "192.0.2.1:443")
	if got := explain(portError("flag --listen", err)); got.code != 1 || !strings.Contains(got.hint, "no such address") {
		t.Errorf("another machine's address: %+v", got)
	}
}

// Every command can be asked for help, says what it is for, and every flag too.
func TestHelp(t *testing.T) {
	t.Parallel()
	a := &app{version: "test", stdout: &screen{w: new(bytes.Buffer)}, stderr: &screen{w: new(bytes.Buffer)},
		env: func(string) string { return "" }}
	var paths []string
	everyCommand(a.root(), func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s says nothing of what it is for", cmd.CommandPath())
		}
		if !cmd.Hidden && cmd.Name() != "help" {
			paths = append(paths, cmd.CommandPath())
		}
	})
	if len(paths) < 20 {
		t.Errorf("only %d commands", len(paths))
	}
	for _, path := range paths {
		args := append(strings.Fields(path)[1:], "--help")
		r := try(t, nil, args...).want(t, 0, path)
		if r.stderr != "" {
			t.Errorf("%s --help says on stderr %q", path, r.stderr)
		}
		for line := range strings.Lines(r.stdout) {
			if len([]rune(line)) > 200 {
				t.Errorf("%s --help has a line of %d columns", path, len(line))
			}
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"frobnicate"}, {"help", "frobnicate"}, {"gateway", "frobnicate"}, {"completion", "frobnicate"}, {"--no-such"},
		{"up", "a", "b"}, {"up", "--names-first", "x"}, {"up", "--split-dns", "corp.example=192.0.2.53", "x"},
		{"up", "--tun", "--split-dns", "corp.example", "x"}, {"up", "--links", "4", "x"}, {"up", "--links", "-1", "x"}, {"up", "--timeout", "-1s", "x"},
		{"up", "--proxy", "0.0.0.0:1080", "x"}, {"up", "--profile", "../x", "x"}, {"forget"}, {"forget", ".."},
		{"key", "add"}, {"key", "show", "x", "--json", "--png", "y"}, {"gateway", "run", "--listen", "443"},
		{"gateway", "run", "--allow", "10.0.0.1"}, {"status", "--log-level", "loud"}, {"status", "--log-format", "xml"},
		{"demo", "--size", "0"}, {"version", "x"}, {"gateway", "init", "--endpoint", "a:b:c"},
		{"key", "add", "x", "--expires", "soon", "--state-dir", "/nonexistent"},
	} {
		r := try(t, nil, args...)
		if r.code != exitUsage || r.stdout != "" || !strings.HasPrefix(r.stderr, "godwit: ") {
			t.Errorf("%q ended with %d:\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	try(t, nil, "up", "--tun", "--split-dns", "corp.example=x", "x").want(t, exitUsage, "flag --split-dns")
	try(t, map[string]string{"GODWIT_LOG": "loud"}, "status").want(t, exitUsage, "GODWIT_LOG")
}
