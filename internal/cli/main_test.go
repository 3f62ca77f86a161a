package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// envMain makes the test binary the program itself, for tests that need processes.
const envMain = "GODWIT_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		if err := mountSmallDisk(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", errSmallDisk, err)
			os.Exit(exitFailure)
		}
		os.Exit(Main("test"))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// errSmallDisk begins what the test binary says when it could not mount one.
const errSmallDisk = "no small disk"

// ran is what a command said and how it ended.
type ran struct {
	code           int
	stdout, stderr string
}

// try runs a command in this process. The environment is what env gives, and a home.
func try(t *testing.T, env map[string]string, args ...string) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	home := t.TempDir()
	a := &app{
		version: "test", stdin: strings.NewReader(env["stdin"]),
		stdout: &screen{w: &stdout}, stderr: &screen{w: &stderr},
		env: func(name string) string {
			if v, ok := env[name]; ok || name != "HOME" {
				return v
			}
			return home
		},
	}
	code := a.run(t.Context(), args)
	return ran{code, stdout.String(), stderr.String()}
}

// want checks the exit code, and that each of the words was said on stdout or stderr.
func (r ran) want(t *testing.T, code int, words ...string) ran {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stdout+r.stderr, w) {
			t.Errorf("%q was not said\nstdout: %s\nstderr: %s", w, r.stdout, r.stderr)
		}
	}
	return r
}

// document parses what --json printed and checks its schema.
func document[T any](t *testing.T, r ran, schema string) (doc T) {
	t.Helper()
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &head); err != nil || head.Schema != schema {
		t.Fatalf("schema %q, %v, want %q: %s", head.Schema, err, schema, r.stdout)
	}
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// program is the command as a process of its own, with its own home.
func program(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	// The race detector would sleep for a second at the end of every process.
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0", envMain + "=1", "HOME=" + home, "PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + os.TempDir(),
		"LOCALAPPDATA=" + home, "SystemRoot=" + os.Getenv("SystemRoot"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
	return cmd
}

// execute runs the program to its end.
func execute(t *testing.T, home string, args ...string) ran {
	t.Helper()
	cmd := program(t, home, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// world is a gateway that runs in this process, and its first access key.
type world struct {
	state string
	addr  string
	key   string
}

func newGateway(t *testing.T) world {
	t.Helper()
	w := world{state: filepath.Join(t.TempDir(), "gateway"), addr: freePort(t)}
	r := try(t, nil, "gateway", "init", "--state-dir", w.state, "--endpoint", w.addr, "--json").want(t, 0)
	w.key = document[initDoc](t, r, "godwit.gateway.init/1").Key
	if !strings.HasPrefix(w.key, "godwit://") {
		t.Fatalf("the first key is %q", w.key)
	}
	return w
}

// run runs the gateway until the test ends. It is ready when run returns.
func (w world) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, pipe := io.Pipe()
	ended := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		a := &app{version: "test", stdout: &screen{w: pipe}, stderr: &screen{w: &stderr},
			env: func(string) string { return "" }}
		ended <- a.run(ctx, []string{"gateway", "run", "--state-dir", w.state, "--listen", w.addr, "--allow", "127.0.0.0/8"})
		pipe.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("the gateway ended with %d: %s", code, &stderr)
		}
	})
	line := make([]byte, 100)
	n, err := r.Read(line)
	if want := "listening on " + w.addr + "\n"; string(line[:n]) != want {
		t.Fatalf("the gateway said %q, %v, want %q", line[:n], err, want)
	}
}
