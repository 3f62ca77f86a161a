//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/result"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

// The test program is the bench itself when this is set; its helpers and its inner self inherit it.
const asBench = "BENCH_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asBench) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// bench prepares to run the program with a marker in its arguments that all its descendants' descriptions share.
func bench(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asBench+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func needNamespaces(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	if err := cmd.Run(); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
}

// TestRunDirect measures everything that can be measured without a peer.
func TestRunDirect(t *testing.T) {
	needNamespaces(t)
	out := filepath.Join(t.TempDir(), "out")
	cmd, said := bench(t, "run", "--peers", "direct,godwit", "--runs", "2", "--seconds", "0.3", "--long-seconds", "1",
		"--tests", "down1,up1,pingpong,connrate,conntime", "--out", out)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Logf("\n%s", said)
	runs, err := result.Read(out)
	if err != nil || len(runs) != 2 {
		t.Fatalf("%d runs: %v", len(runs), err)
	}
	for _, r := range runs {
		if r.Finished.IsZero() || r.Skipped["godwit"] != "no godwit program given or built" {
			t.Errorf("run %d finished %v, skipped %v", r.Number, r.Finished, r.Skipped)
		}
		// Where BBR cannot be had there is nothing to measure with it.
		if len(r.Measurements)+len(r.Skipped)-1 != 2 {
			t.Errorf("%d measurements, skipped %v", len(r.Measurements), r.Skipped)
		}
		for _, m := range r.Measurements {
			if len(m.Errors) > 0 {
				t.Errorf("%s: %v", m.Condition, m.Errors)
			}
			for _, name := range []string{"down1.mbps", "conntime.p50_ms", "start.first_byte_ms"} {
				if m.Metrics[name] <= 0 {
					t.Errorf("%s: %s is %v", m.Condition, name, m.Metrics[name])
				}
			}
			if m.CC == nil || m.CC.Probed["client-gateway"] != m.CC.Asked || len(m.CC.Sockets) == 0 {
				t.Errorf("%s: congestion control %+v", m.Condition, m.CC)
			}
			if strings.HasPrefix(m.Condition, "long") {
				if m.Metrics["conntime.p50_ms"] < 2*2*99 {
					t.Errorf("a new connection took %v ms on a path of 200 ms", m.Metrics["conntime.p50_ms"])
				}
				if m.Metrics["down1.mbps"] > 105 {
					t.Errorf("%v Mbit/s through 100", m.Metrics["down1.mbps"])
				}
				if s := m.Link["up"]; s.Frames == 0 || s.Oversize+s.Unfinished > 0 {
					t.Errorf("link: %+v", s)
				}
			}
		}
	}
	md, err := os.ReadFile(filepath.Join(out, "report.md"))
	if err != nil || !bytes.Contains(md, []byte("| direct |")) {
		t.Errorf("report: %v\n%s", err, md)
	}
	again, said := bench(t, "run", "--peers", "direct", "--out", out)
	if err := again.Run(); err == nil {
		t.Errorf("results were overwritten\n%s", said)
	}
}

// TestRunPage loads a page in a browser, without a peer.
func TestRunPage(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("needs chromium: apt-get install chromium")
	}
	out := filepath.Join(t.TempDir(), "out")
	cmd, said := bench(t, "run", "--suite", "page", "--peers", "direct", "--conditions", "*-50ms-loss0", "--runs", "1", "--out", out)
	if err := cmd.Run(); strings.Contains(said.String(), "nothing left to measure") {
		t.Skipf("no BBR here:\n%s", said)
	} else if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	runs, err := result.Read(out)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs: %v", len(runs), err)
	}
	for _, m := range runs[0].Measurements {
		// A name, a connection, TLS, a page, another name, connection, TLS, and what is there: eight round trips at least.
		if p50 := m.Metrics["page.p50_s"]; len(m.Errors) > 0 || m.Metrics["page.failed"] > 0 || p50 < 0.4 {
			t.Errorf("a page took %v s, %v failed: %v\n%s", p50, m.Metrics["page.failed"], m.Errors, said)
		}
	}
}

// descendants finds the processes whose command line has the marker, in whatever namespace they are.
func descendants(t *testing.T, marker string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if bytes.Contains(b, []byte(marker)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestEnds interrupts a bench in the middle of a measurement, or kills it: nothing of it may be left.
func TestEnds(t *testing.T) {
	needNamespaces(t)
	for _, c := range []struct {
		name string
		sig  syscall.Signal
		code int
	}{
		{"interrupted", syscall.SIGINT, verbs.ExitInterrupted},
		{"killed", syscall.SIGKILL, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			cmd, said := bench(t, "run", "--peers", "direct", "--runs", "1", "--seconds", "60", "--conditions", "clean-*", "--out", out)
			marker := "BENCH_TEST_MARK=" + out
			cmd.Env = append(cmd.Env, marker)
			cmd.WaitDelay = 5 * time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Outer, inner, target and load.
			for end := time.Now().Add(30 * time.Second); len(descendants(t, marker)) < 4; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					cmd.Process.Kill()
					t.Fatalf("it does not get going: %v\n%s", descendants(t, marker), said)
				}
			}
			cmd.Process.Signal(c.sig)
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d\n%s", got, c.code, said)
			}
			left := descendants(t, marker)
			for end := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(end); left = descendants(t, marker) {
				time.Sleep(20 * time.Millisecond)
			}
			if len(left) > 0 {
				t.Errorf("left running: %v", left)
			}
			if c.sig == syscall.SIGINT {
				if _, err := result.Read(out); err != nil {
					t.Errorf("what was measured is lost: %v\n%s", err, said)
				}
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{nil, verbs.ExitUsage, "usage: bench"},
		{[]string{"nonesuch"}, verbs.ExitUsage, `no command "nonesuch"`},
		{[]string{"run", "--peers", "nonesuch"}, verbs.ExitUsage, `no peer "nonesuch"`},
		{[]string{"run", "--peers", "direct,direct"}, verbs.ExitUsage, "twice"},
		{[]string{"run", "--suite", "nonesuch"}, verbs.ExitUsage, "no suite"},
		{[]string{"run", "--conditions", "nonesuch"}, verbs.ExitUsage, "clean-bbr"},
		{[]string{"run", "--out", "/run/x"}, verbs.ExitUsage, "hides /run"},
		{[]string{"run", "surplus"}, verbs.ExitUsage, "surplus"},
		{[]string{"linkcheck", "--loss", "3"}, verbs.ExitUsage, "loss 3"},
		{[]string{"report"}, verbs.ExitUsage, "usage: bench report"},
		{[]string{"report", "/nonesuch"}, verbs.ExitError, "no run-*.json"},
		{[]string{"load", "--help"}, 0, "keystroke"},
	} {
		cmd, said := bench(t, c.args...)
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(said.String(), c.text) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s", c.args, got, c.code, c.text, said)
		}
	}
}
