package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

var clockJumps = flag.Bool("clock", false, "have TestClockJumps build godwit with a clock that can be set, which takes a minute")

// settable is the program with a wall clock of its own: it reads how many seconds it is ahead from $CLOCK when it gets SIGUSR2.
const settable = `package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func init() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	go func() {
		for range c {
			b, _ := os.ReadFile(os.Getenv("CLOCK"))
			n, _ := strconv.ParseInt(string(b), 10, 64)
			time.Ahead.Store(n)
			println("the clock says", time.Now().Unix())
		}
	}()
}
`

// buildSettable builds it, by a Go whose package time has been altered.
func buildSettable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "go")
	for _, args := range [][]string{{"cp", "-r", strings.TrimSpace(string(goroot)), root}, {"chmod", "-R", "u+w", root}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	clock := filepath.Join(root, "src/time/time.go")
	text, err := os.ReadFile(clock)
	if err != nil {
		t.Fatal(err)
	}
	was := string(text)
	is := strings.Replace(was, "\nimport (\n", "\nimport (\n\t\"sync/atomic\"\n", 1)
	is = strings.Replace(is, "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n",
		"\nvar Ahead atomic.Int64\n\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += Ahead.Load()\n", 1)
	if !strings.Contains(is, "Ahead.Load") {
		t.Fatalf("%s of %s is not as this test knows it", clock, runtime.Version())
	}
	if err := os.WriteFile(clock, []byte(is), 0o644); err != nil {
		t.Fatal(err)
	}
	main, err := filepath.Abs("../cmd/godwit/settable.go")
	if err != nil {
		t.Fatal(err)
	}
	extra, overlay := filepath.Join(dir, "settable.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{main: extra}})
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{extra: []byte(settable), overlay: replace} {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "godwit")
	cmd := exec.Command(filepath.Join(root, "bin/go"), "build", "-overlay", overlay, "-o", program, "../cmd/godwit")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOROOT="+root, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// TestClockJumps sets the client's and the gateway's wall clocks forward and back, with streams open and programs at work:
// nothing breaks, and nothing goes past the tunnel.
func TestClockJumps(t *testing.T) {
	if !*clockJumps {
		t.Skip("needs -clock")
	}
	w, _ := withMachine(t)
	t.Setenv(envBinary, buildSettable(t))
	w.gatewayProcess.stop(syscall.SIGTERM, 20*time.Second)
	clocks := map[string]string{"client": w.write("client.clock", ""), "gateway": w.write("gateway.clock", "")}
	cmd := w.gateway.command(godwit(t), w.gatewayArgs()...)
	cmd.Env = append(cmd.Env, "CLOCK="+clocks["gateway"])
	w.gatewayProcess = w.startGatewayAs(cmd)
	cmd = w.client.command(godwit(t), "up", "--foreground", "--tun", "--state-dir", w.clientDir(), "--browser", "chrome", "--proxy", proxyAddr, w.key)
	cmd.Env = append(cmd.Env, "CLOCK="+clocks["client"])
	p := w.start("client", cmd)
	w.clientIsUp(p)
	j := newJudge(t, w.middle, "client")
	all := w.keepTrying()
	const slow = 40 << 20 // 40 s
	curl := w.start("download", w.client.command("curl", "--silent", "--show-error", "--fail", "--output", filepath.Join(w.dir, "file"),
		fmt.Sprintf("http://%s/bytes/a/%d?rate=%d", webAddr, slow, 1<<20)))
	set := func(who string, p *process, ahead time.Duration) {
		if err := os.WriteFile(clocks[who], fmt.Append(nil, int64(ahead/time.Second)), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Process.Signal(syscall.SIGUSR2)
		w.eventually("the clock is set", p, 10*time.Second, func() error {
			said, err := os.ReadFile(p.log)
			i := strings.LastIndex(string(said), "the clock says ")
			var now int64
			if i >= 0 {
				_, err = fmt.Sscanf(string(said[i:]), "the clock says %d", &now)
			}
			if is := time.Until(time.Unix(now, 0)); err == nil && (is-ahead).Abs() > time.Minute {
				err = fmt.Errorf("it is %v ahead", is)
			}
			return err
		})
		w.eventuallyAll(fmt.Sprintf("after the %s's clock is %v ahead", who, ahead), all, 30*time.Second)
		for _, s := range j.found() {
			t.Errorf("the %s's clock %v ahead: past the tunnel: %s", who, ahead, s)
		}
	}
	for _, ahead := range []time.Duration{26 * time.Hour, -26 * time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour, 0} {
		set("client", p, ahead)
	}
	for _, ahead := range []time.Duration{26 * time.Hour, -26 * time.Hour, 0} {
		set("gateway", w.gatewayProcess, ahead)
	}
	<-curl.done
	if curl.err != nil {
		t.Errorf("the download: %v", curl.err)
	}
	if got, want := sumFile(t, filepath.Join(w.dir, "file")), sumOf(t, "a", slow); got != want {
		t.Errorf("the download has the sum %s, and it should be %s", got, want)
	}
	for _, p := range all {
		p.giveUp()
	}
}
