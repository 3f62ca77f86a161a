package local

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// envTake makes the test binary the process that runs on a directory, so that it can be killed.
const envTake = "GODWIT_TEST_TAKE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envTake); dir != "" {
		i, err := Take(dir, "client")
		if err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		i.Serve(Handler{Status: func() any { return "here" }, Stop: func() {}})
		os.Stdout.WriteString("taken\n")
		select {} // until it is killed
	}
	goleak.VerifyTestMain(m)
}

func take(t *testing.T, dir string) (*Instance, chan struct{}) {
	t.Helper()
	i, err := Take(dir, "client")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	stop := make(chan struct{}, 8) // whoever asks to stop does not wait
	i.Serve(Handler{
		Status: func() any { return map[string]int{"answer": 42} },
		Stop:   func() { stop <- struct{}{} },
	})
	return i, stop
}

func find(t *testing.T, dir string) *Peer {
	t.Helper()
	p, err := Find(dir, "client")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAskAndStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Find(dir, "client"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("an empty directory: %v", err)
	}
	i, stop := take(t, dir)
	p := find(t, dir)
	if p.PID != os.Getpid() {
		t.Errorf("pid %d, want %d", p.PID, os.Getpid())
	}
	text, err := p.Status(t.Context())
	var answer map[string]int
	if err != nil || json.Unmarshal(text, &answer) != nil || answer["answer"] != 42 {
		t.Errorf("status is %q, %v", text, err)
	}
	released := make(chan error, 1)
	go func() {
		<-stop
		released <- i.Close()
	}()
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	// Whoever has stopped one can start another at once.
	j, err := Take(dir, "client")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-released, j.Close(), i.Close()); err != nil {
		t.Error(err)
	}
	if _, err := Find(dir, "client"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := p.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("an old peer after the end: %v", err)
	}
}

// The second process on a directory is told who the first is, and does the first no harm.
func TestHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	take(t, dir)
	_, err := Take(dir, "client")
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("the second: %v", err)
	}
	if _, err := find(t, dir).Status(t.Context()); err != nil {
		t.Errorf("the first one, afterwards: %v", err)
	}
	other, err := Take(dir, "gateway")
	if err != nil {
		t.Fatalf("under another name: %v", err)
	}
	other.Close()
}

// Stop does not wait longer than it is told to.
func TestStopTimeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	take(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := find(t, dir).Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopping one that does not end: %v", err)
	}
}

// A process that was killed leaves its files behind, and they bother nobody.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envTake+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := out.Read(line)
	if string(line[:n]) != "taken\n" {
		t.Errorf("the other process said %q", line[:n])
	}
	p, err := Find(dir, "client")
	if err != nil || p.PID != cmd.Process.Pid {
		t.Errorf("found %+v, %v", p, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, "client.sock")); err != nil {
		t.Errorf("the socket was meant to be left behind: %v", err)
	}
	if _, err := Find(dir, "client"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the kill: %v", err)
	}
	take(t, dir)
	if _, err := find(t, dir).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("permission bits say nothing on Windows")
	}
	dir := t.TempDir()
	take(t, dir)
	for _, file := range []string{"client.sock", "client.lock"} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want 0600", file, info.Mode(), err)
		}
	}
}

// A directory too long for a socket's path works as any other, and whoever asks need not have the same environment.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	short, err := os.MkdirTemp("", "gw") // t.TempDir is long itself on some systems
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	t.Setenv("XDG_RUNTIME_DIR", short)
	i, _ := take(t, dir)
	if !strings.HasPrefix(i.socket, short) {
		t.Errorf("the socket is %q, want it under %q", i.socket, short)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if _, err := find(t, dir).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketPath(t *testing.T) {
	t.Parallel()
	noEnv := func(string) string { return "" }
	dir := "/" + strings.Repeat("x", maxSocket-len("//client.sock"))
	if path, err := socketPath(dir, "client", noEnv); err != nil || len(path) != maxSocket {
		t.Errorf("%d bytes, %v, want %d", len(path), err, maxSocket)
	}
	one, err := socketPath(dir+"y", "client", noEnv)
	if err != nil || strings.HasPrefix(one, dir) || len(one) > maxSocket {
		t.Errorf("one byte more: %q, %v", one, err)
	}
	other, err := socketPath(dir+"z", "client", noEnv)
	if err != nil || one == other {
		t.Errorf("two directories share %q, %v", other, err)
	}
}

// A directory for sockets that somebody else put there is not used.
func TestPrivateDir(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("permission bits say nothing on Windows")
	}
	base := t.TempDir()
	open, link, file := filepath.Join(base, "open"), filepath.Join(base, "link"), filepath.Join(base, "file")
	good := filepath.Join(base, "good")
	err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), privateDir(good), os.Symlink(good, link),
		os.WriteFile(file, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if err := privateDir(good); err != nil {
		t.Errorf("one's own: %v", err)
	}
	for _, bad := range []string{open, link, file} {
		if privateDir(bad) == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// Too many askers at once are turned away, and those who come later are answered.
func TestManyAskers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, _ := take(t, dir)
	var conns []net.Conn
	for range maxAskers + 8 {
		c, err := net.Dial("unix", i.socket)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	last := conns[len(conns)-1]
	last.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the last of too many read %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := find(t, dir).Status(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"pid":1,"socket":"/x"}` + "\n"))
	f.Add([]byte(`{"pid":`))
	f.Add([]byte(``))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "client.lock")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := readNote(path); err != nil && n != (note{}) {
			t.Errorf("%q: %+v with an error", text, n)
		}
	})
}

// Only the lock of the very directory is adopted.
func TestAdoptAnother(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	take(t, dir)
	f, err := os.Create(filepath.Join(other, "client.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := Adopt(dir, "client", f); err == nil {
		i.Close()
		t.Error("another directory's lock was adopted")
	}
	if _, err := find(t, dir).Status(t.Context()); err != nil {
		t.Errorf("the one that runs, afterwards: %v", err)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	take(t, dir)
	if pid, err := find(t, dir).Upgrade(t.Context()); err == nil {
		t.Errorf("one that cannot be replaced: pid %d", pid)
	}
	i, err := Take(dir, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	answers := make(chan error, 2) // what the two requests get
	answers <- nil
	answers <- errors.New("bad settings")
	i.Serve(Handler{Status: func() any { return "" }, Stop: func() {},
		Upgrade: func() (int, error) { return 42, <-answers }})
	p, err := Find(dir, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := p.Upgrade(t.Context()); pid != 42 || err != nil {
		t.Errorf("pid %d, %v", pid, err)
	}
	if _, err := p.Upgrade(t.Context()); !errors.Is(err, ErrUpgrade) || !strings.Contains(err.Error(), "bad settings") {
		t.Errorf("one that fails: %v", err)
	}
}

// What was found of the network reaches the process, and what it makes of that comes back; not every process wants it.
func TestSteer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i, err := Take(dir, "client")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	i.Serve(Handler{Status: func() any { return nil }, Stop: func() {}, Steer: func(found []byte) (any, error) {
		if string(found) != `["found"]` {
			return nil, errors.New("bad")
		}
		return "heeded", nil
	}})
	p := find(t, dir)
	if text, err := p.Steer(t.Context(), []byte(`["found"]`)); err != nil || strings.TrimSpace(string(text)) != `"heeded"` {
		t.Errorf("it answers %q, %v", text, err)
	}
	for name, found := range map[string][]byte{"refused": []byte("x"), "endless": make([]byte, maxAsked+1)} {
		if text, err := p.Steer(t.Context(), found); err == nil {
			t.Errorf("%s: it answers %q", name, text)
		}
	}
	other := t.TempDir()
	take(t, other)
	if _, err := find(t, other).Steer(t.Context(), nil); err == nil {
		t.Error("one that does not want it answers")
	}
}
