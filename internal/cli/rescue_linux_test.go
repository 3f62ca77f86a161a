package cli

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/godwit-vpn/godwit/internal/hostnet"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// Rescue removes what a killed process has left, says so, and finds nothing the next time; others may not.
func TestRescue(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("hosts are made by root")
	}
	if _, err := os.Stat(hostnet.Dir); err == nil {
		t.Skip(hostnet.Dir + " is this machine's own")
	}
	machine, err := netns.NewHost("machine")
	if err != nil {
		t.Skip(err)
	}
	defer machine.Close()
	run := func(change func(*exec.Cmd), args ...string) ran {
		t.Helper()
		cmd := program(t, t.TempDir(), append([]string{"rescue"}, args...)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if change != nil {
			change(cmd)
		}
		if err := machine.Start(cmd); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
	leave := func() {
		t.Helper()
		// Another directory: so it is as if the disk had forgotten, and what is left must tell.
		if err := machine.Do(func() error {
			h, err := hostnet.Open(t.TempDir())
			if err != nil {
				return err
			}
			return h.Set(hostnet.Desired{})
		}); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	run(nil).want(t, exitOK, "kill switch", "routing rules")
	run(nil).want(t, exitOK, "nothing to undo")
	leave()
	doc := document[rescueDoc](t, run(nil, "--json").want(t, exitOK), "godwit.rescue/1")
	if len(doc.Undone) == 0 || !strings.Contains(strings.Join(doc.Undone, " "), "kill switch") {
		t.Errorf("undone: %q", doc.Undone)
	}
	doc = document[rescueDoc](t, run(nil, "--json").want(t, exitOK), "godwit.rescue/1")
	if doc.Undone == nil || len(doc.Undone) != 0 {
		t.Errorf("undone: %q", doc.Undone)
	}
	leave()
	nobody := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Path = copyOf(t, cmd.Path)
	}
	run(nobody).want(t, exitPermission, "only root", "sudo godwit rescue")
	run(nil).want(t, exitOK, "kill switch")
	run(nil, "everything").want(t, exitUsage)
}

// copyOf is the program where everybody may run it.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp("", "godwit-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	if _, err := f.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
