package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// envRole makes the test binary a successor of that kind.
const envRole = "GODWIT_TEST_SUCCESSOR"

func TestMain(m *testing.M) {
	if code, waits := Waits(); waits {
		os.Exit(code)
	}
	if role := os.Getenv(envRole); role != "" {
		os.Exit(succeed(role))
	}
	goleak.VerifyTestMain(m)
}

// succeed is what a successor does: it answers one connection with what it has, and ends.
func succeed(role string) int {
	p, err := This()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if role == "broken" {
		fmt.Fprintln(os.Stderr, "the settings are bad")
		return 78
	}
	if role == "first" {
		return precede(p)
	}
	if role == "silent" {
		time.Sleep(time.Hour)
	}
	l, err := p.Listen("tcp", os.Getenv("GODWIT_TEST_ADDRESS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, again := os.LookupEnv(variable)
	again = again || os.Getenv(memoVariable) != ""
	lock := p.Lock()
	if err := p.Ready(); err != nil {
		return 1
	}
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	name, _ := os.ReadFile("/proc/self/comm")
	fmt.Fprintf(c, "%s: %q, lock %s, %d left, told again %v", strings.TrimSpace(string(name)), p.Memo(), filepath.Base(readLink(lock)), len(p.inherited), again)
	c.Close()
	return endsWith
}

// endsWith is the exit code of a successor that has done its work.
const endsWith = 7

// precede is a first process whose program is gone by the time that it is to run again.
func precede(p *Process) int {
	l, err := p.Listen("tcp", os.Getenv("GODWIT_TEST_ADDRESS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Remove(self)
	}
	lock, lockErr := os.Create(self + ".lock")
	if err = errors.Join(err, lockErr, os.Setenv(envRole, "good")); err == nil {
		_, err = p.Again(context.Background(), "a memo", lock)
	}
	if err == nil {
		fmt.Println(l.Addr())
		err = p.Follow(false)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A process is followed by its own program, which need not lie anywhere, under its own name; and whoever started it
// waits for the successor's end, and learns how that was.
func TestAgain(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	path := filepath.Join(t.TempDir(), "some program")
	if err == nil {
		err = os.WriteFile(path, self, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), envRole+"=first", "GODWIT_TEST_ADDRESS=127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := bufio.NewReader(out).ReadString('\n')
	for {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
		if err != nil || strings.Contains(string(env), waitVariable) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c, err := net.Dial("tcp", strings.TrimSpace(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if want := `some program: "a memo", lock some program.lock, 0 left, told again false`; err != nil || string(got) != want {
		t.Errorf("it said %q, %v, want %q", got, err, want)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != endsWith {
		t.Errorf("the first process ended with %d, want %d as the last one", code, endsWith)
	}
}

func readLink(f *os.File) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return err.Error()
	}
	return name
}

// running is a process with a socket and a lock, whose successors are of the given role.
func running(t *testing.T, role string) (p *Process, l net.Listener, lock *os.File) {
	t.Helper()
	p, err := This()
	if err != nil || p.Succeeds() || p.Lock() != nil {
		t.Fatalf("this process: %+v, %v", p, err)
	}
	if p.path, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	p.args = nil
	if l, err = p.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	closed, err := p.Listen("tcp", "127.0.0.1:0") // one that is no longer there is not passed on
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if lock, err = os.Create(filepath.Join(t.TempDir(), "some.lock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	t.Setenv(envRole, role)
	t.Setenv("GODWIT_TEST_ADDRESS", "127.0.0.1:0")
	return p, l, lock
}

// A successor has the socket and the lock, and answers who comes to the socket.
func TestSuccessor(t *testing.T) {
	p, l, lock := running(t, "good")
	s, err := p.Successor(t.Context(), lock)
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if want := `: "", lock some.lock, 0 left, told again false`; err != nil || !strings.HasSuffix(string(got), want) {
		t.Errorf("it said %q, %v, want %q", got, err, want)
	}
	var exit *exec.ExitError
	if err := <-s.Ended; !errors.As(err, &exit) || exit.ExitCode() != endsWith {
		t.Errorf("process %d ended with %v", s.PID, err)
	}
}

// One that fails, is not there, or says nothing is as if it had never been: the socket still serves here.
func TestFailed(t *testing.T) {
	for _, tt := range []struct{ role, said string }{
		{"broken", "the settings are bad"}, {"silent", "enough"}, {"absent", "no such file"},
	} {
		t.Run(tt.role, func(t *testing.T) {
			p, l, lock := running(t, tt.role)
			ctx, cancel := context.WithCancelCause(t.Context())
			switch tt.role {
			case "absent":
				p.path = filepath.Join(t.TempDir(), "nothing")
			case "silent":
				time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("enough")) })
			}
			defer cancel(nil)
			_, err := p.Successor(ctx, lock)
			var failed *FailedError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.said) {
				t.Errorf("%v, want it to say %q", err, tt.said)
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			l.(*net.TCPListener).SetDeadline(time.Now().Add(5 * time.Second)) // which a blocking socket would not keep
			here, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			here.Close()
		})
	}
}

// What was not handed over by us is refused, not guessed.
func TestBadVariable(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"", "nonsense", `["tcp :443"]`} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), envRole+"=good", variable+"="+list)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "taking over") {
			t.Errorf("%q: %v, %s", list, err, out)
		}
	}
}
