package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// upHere brings a tunnel up in the background, and down when the test ends.
func upHere(t *testing.T, home string, args ...string) ran {
	t.Helper()
	t.Cleanup(func() { execute(t, home, "down") })
	return execute(t, home, append([]string{"up", "--proxy", "127.0.0.1:0", "--timeout", "20s"}, args...)...)
}

// status is what status --json says.
func status(t *testing.T, home string, args ...string) statusDoc {
	t.Helper()
	return document[statusDoc](t, execute(t, home, append([]string{"status", "--json"}, args...)...).want(t, 0),
		"godwit.status/1")
}

// throughProxy fetches a page by way of a proxy.
func throughProxy(t *testing.T, proxy, page string) string {
	t.Helper()
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: proxy})}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A tunnel comes up in the background, carries a page, tells its status, and goes; the key is needed once.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w,
			"a page")
	}))
	defer site.Close()
	home := t.TempDir()
	execute(t, home, "status").want(t, exitNotRunning, "not up")
	execute(t, home, "down").want(t, exitNotRunning)
	execute(t, home, "up").want(t, exitUsage, "no access key given")

	r := upHere(t, home, w.key).want(t, 0, "curl --proxy socks5h://127.0.0.1:")
	st := status(t, home)
	if st.Profile != "default" || st.State != "connected" || st.PID == 0 || !strings.Contains(r.stdout, st.Proxy) ||
		st.Since.IsZero() {
		t.Errorf("%+v", st)
	}
	if got := throughProxy(t, st.Proxy, site.URL); got != "a page" {
		t.Errorf("the page is %q", got)
	}
	execute(t, home, "status").want(t, 0, "connected", st.Proxy, "https", "looks like", st.Browser.Family+" of ", "built in")
	execute(t, home, "list").want(t, 0, "default", "up, proxy "+st.Proxy)

	// Again changes nothing, unless something else is asked for.
	for _, args := range [][]string{{"up"}, {"up", w.key}} {
		execute(t, home, args...).want(t, 0, "Up already")
	}
	if again := status(t, home); again.PID != st.PID {
		t.Errorf("process %d instead of %d", again.PID, st.PID)
	}
	execute(t, home, "up", "--proxy", freePort(t)).want(t, exitFailure, `"default"`, "with its proxy on "+st.Proxy)
	other := newGateway(t)
	execute(t, home, "up", other.key).want(t, exitFailure, `"default"`, "with another access key")
	execute(t, home, "up", "--foreground").want(t, exitFailure, `"default"`, "is up already")
	execute(t, home, "forget", "default").want(t, exitFailure, "is up already")

	execute(t, home, "down").want(t, 0, "is down")
	execute(t, home, "status").want(t, exitNotRunning)
	if c, err := net.Dial("tcp", st.Proxy); err == nil {
		c.Close()
		t.Error("the proxy is still there")
	}
	upHere(t, home).want(t, 0) // with the saved key
	execute(t, home, "down", "--profile", "default").want(t, 0)
	execute(t, home, "forget", "default").want(t, 0)
	execute(t, home, "forget", "default").want(t, exitFailure, "no such profile")
	if r := execute(t, home, "list", "--json").want(t, 0); strings.Contains(r.stdout, "default") {
		t.Errorf("it is not forgotten: %s", r.stdout)
	}
}

// The access key is nowhere for others to see: not in lists of processes, not in the log, not in what is said.
func TestKeyUnseen(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	secret, _, _ := strings.Cut(strings.TrimPrefix(w.key, "godwit://"), "@")
	unseen := func(where, text string) {
		t.Helper()
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the access key: %s", where, text)
		}
	}
	r := upHere(t, home, w.key, "--log-level", "debug").want(t, 0)
	st := execute(t, home, "status", "--json")
	list := execute(t, home, "list", "--json")
	unseen("up", r.stdout+r.stderr)
	unseen("status", st.stdout)
	unseen("list", list.stdout)
	dir := filepath.Join(home, ".local", "state", "godwit", "client", "profiles", "default")
	if runtime.GOOS == "linux" {
		log, err := os.ReadFile(filepath.Join(dir, "client.log"))
		if err != nil || len(log) == 0 {
			t.Errorf("the log: %d bytes, %v", len(log), err)
		}
		unseen("the log", string(log))
		pid := status(t, home).PID
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
			if errors.Is(err, fs.ErrPermission) {
				continue // the process is closed to its own user, too
			} else if err != nil {
				t.Error(err)
			}
			unseen("the background process's "+file, string(text))
		}
	}
	execute(t, home, "down").want(t, 0)
	if runtime.GOOS != "linux" {
		return
	}
	p := startForeground(t, home, w.key)
	p.up(t)
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "cmdline"))
	if err != nil || !bytes.Contains(text, []byte("--foreground")) {
		t.Errorf("its arguments are %q, %v", text, err)
	}
	unseen("the list of processes", string(text))
}

// foreground is an up that stays.
type foreground struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
	ended  chan struct{}
}

func startForeground(t *testing.T, home string, args ...string) *foreground {
	t.Helper()
	f := &foreground{ended: make(chan struct{})}
	f.cmd = program(t, home, append([]string{"up", "--foreground", "--proxy", "127.0.0.1:0"}, args...)...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stdout, f.cmd.Stderr = in, &f.stderr
	f.stdout = bufio.NewReader(out)
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	go func() { f.cmd.Wait(); close(f.ended) }()
	t.Cleanup(func() {
		f.cmd.Process.Kill()
		<-f.ended
		out.Close()
		if t.Failed() {
			t.Logf("up --foreground said:\n%s", &f.stderr)
		}
	})
	return f
}

// up waits until it says that it is up.
func (f *foreground) up(t *testing.T) {
	t.Helper()
	if line, err := f.stdout.ReadString('\n'); err != nil || !strings.Contains(line, "up, proxy on") {
		t.Fatalf("it said %q, %v", line, err)
	}
}

// end waits for its end.
func (f *foreground) end(t *testing.T) int {
	t.Helper()
	select {
	case <-f.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it still runs")
	}
	return f.cmd.ProcessState.ExitCode()
}

func TestForegroundEnds(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	w := newGateway(t)
	w.run(t)
	for name, tt := range map[string]struct {
		end  func(t *testing.T, home string, f *foreground)
		code int
	}{
		"^C":      {func(_ *testing.T, _ string, f *foreground) { f.cmd.Process.Signal(os.Interrupt) }, exitInterrupted},
		"service": {func(_ *testing.T, _ string, f *foreground) { f.cmd.Process.Signal(syscall.SIGTERM) }, 0},
		"down":    {func(t *testing.T, home string, _ *foreground) { execute(t, home, "down").want(t, 0) }, 0},
		"revoked": {func(t *testing.T, home string, _ *foreground) {
			try(t, nil, "device", "revoke", status(t, home).Device, "--state-dir", w.state).want(t, 0)
		}, exitRefused},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			f := startForeground(t, home, w.key)
			f.up(t)
			tt.end(t, home, f)
			if code := f.end(t); code != tt.code {
				t.Errorf("it ended with %d, want %d", code, tt.code)
			}
			execute(t, home, "status").want(t, exitNotRunning)
		})
	}
}

// Of several that come up at once on one profile one wins, and the others say who.
func TestRace(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	results := make([]ran, 4)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i] = upHere(t, home, w.key) })
	}
	wg.Wait()
	won := 0
	for _, r := range results {
		switch {
		case r.code == 0 && strings.Contains(r.stdout, "Up: data"):
			won++
		case r.code == 0 && strings.Contains(r.stdout, "Up already"):
		case r.code == exitFailure && strings.Contains(r.stderr, `profile "default" is up already`):
		default:
			t.Errorf("code %d: %s%s", r.code, r.stdout, r.stderr)
		}
	}
	if won != 1 {
		t.Errorf("%d of them brought it up, want 1", won)
	}
}

// Two profiles are up side by side; commands then want to know which is meant.
func TestTwoProfiles(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	t.Cleanup(func() { execute(t, home, "down", "--profile", "work") })
	upHere(t, home, w.key).want(t, 0)
	proxy := status(t, home).Proxy
	execute(t, home, "up", w.key, "--profile", "work", "--proxy", proxy).want(t, exitFailure,
		"flag --proxy", `taken by profile "default"`)
	upHere(t, home, w.key, "--profile", "work").want(t, 0, "--profile work")
	execute(t, home, "status").want(t, exitUsage, "default, work")
	execute(t, home, "down").want(t, exitUsage, "default, work")
	if a, b := status(t, home, "--profile", "default"), status(t, home, "--profile", "work"); a.Device == b.Device ||
		a.Proxy == b.Proxy {
		t.Errorf("two profiles are one device %q, or have one proxy", a.Device)
	}
	execute(t, home, "down", "--profile", "work").want(t, 0)
	execute(t, home, "down").want(t, 0)
}

// A proxy port that another program has is named, with what to do; nothing is left running.
func TestProxyTaken(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	home := t.TempDir()
	execute(t, home, "up", w.key, "--proxy", l.Addr().String()).want(t, exitFailure,
		"flag --proxy: "+l.Addr().String()+" is taken by another program", "another port with --proxy")
	execute(t, home, "status").want(t, exitNotRunning)
	execute(t, home, "list").want(t, 0, "default") // the key is saved all the same
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	add := func(name string, args ...string) string {
		return strings.TrimSpace(try(t, nil, append([]string{"key", "add", name, "--state-dir", w.state},
			args...)...).want(t, 0).stdout)
	}
	revoked := add("revoked")
	try(t, nil, "key", "revoke", "revoked", "--state-dir", w.state).want(t, 0)
	home := t.TempDir()
	time.Sleep(300 * time.Millisecond) // the gateway asks the database four times a second
	upHere(t, home, revoked).want(t, exitRefused, "the access key was revoked", "whoever gave you")
	execute(t, home, "status").want(t, exitNotRunning)

	// A key that works is not lost to one that does not.
	one := add("one", "--devices", "1")
	upHere(t, home, one).want(t, 0)
	execute(t, home, "down").want(t, 0)
	upHere(t, home, add("gone", "--devices", "1")).want(t, 0) // another one replaces it
	execute(t, home, "down").want(t, 0)
	try(t, nil, "key", "revoke", "gone", "--state-dir", w.state).want(t, 0)
	time.Sleep(300 * time.Millisecond)
	upHere(t, home, one).want(t, 0)
	execute(t, home, "down").want(t, 0)
	upHere(t, home, revoked).want(t, exitRefused)
	upHere(t, home).want(t, 0) // one is still saved
	upHere(t, t.TempDir(), one).want(t, exitRefused, "as many devices as it allows")
}

func TestBlocked(t *testing.T) {
	t.Parallel()
	w := newGateway(t) // and nobody runs it
	home := t.TempDir()
	began := time.Now()
	execute(t, home, "up", w.key, "--timeout", "1s", "--proxy", "127.0.0.1:0").want(t, exitBlocked,
		"within 1s", "connect: connection refused", "online")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	execute(t, home, "status").want(t, exitNotRunning)
	// Whoever else answers there is told nothing, and the person what is wrong.
	other := newGateway(t)
	other.run(t)
	moved := document[initDoc](t, try(t, nil, "gateway", "init", "--state-dir", w.state, "--endpoint", other.addr,
		"--json"),
		"godwit.gateway.init/1")
	execute(t, home, "up", moved.Key, "--timeout", "1s", "--proxy", "127.0.0.1:0").want(t, exitBlocked,
		"the server's key is not the gateway's")
}

// A tunnel in the background that ended by itself says why when somebody asks.
func TestEndedAlone(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	upHere(t, home, w.key).want(t, 0)
	try(t, nil, "device", "revoke", status(t, home).Device, "--state-dir", w.state).want(t, 0)
	deadline := time.Now().Add(20 * time.Second)
	for execute(t, home, "status").code == 0 {
		if time.Now().After(deadline) {
			t.Fatal("it is still up")
		}
	}
	execute(t, home, "status").want(t, exitNotRunning, "it ended at", "this device was revoked")
}

// Watched, a tunnel is one document on each line until it is gone.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	upHere(t, home, w.key).want(t, 0)
	cmd := program(t, home, "status", "--watch", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := range 2 {
		if !lines.Scan() {
			t.Fatalf("it ended after %d lines: %v", n, lines.Err())
		}
		document[statusDoc](t, ran{stdout: lines.Text()}, "godwit.status/1")
	}
	execute(t, home, "down").want(t, 0)
	for lines.Scan() {
	}
	if cmd.Wait(); cmd.ProcessState.ExitCode() != exitNotRunning {
		t.Errorf("it ended with %d, want %d", cmd.ProcessState.ExitCode(), exitNotRunning)
	}
}

// A key that came to harm on its way is told apart from one that never was one, and nothing of it is shown.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	home := t.TempDir()
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte(w.key[:100]), 0o600); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(w.key, "&")
	for _, tt := range []struct {
		arg   string
		words []string
	}{
		{head, []string{"cut off", "single quotes"}},
		{file, []string{"cut off", "key.txt"}},
		{strings.Replace(w.key, "pin=", "pin=A", 1), []string{"access key"}},
		{"ss://abc@192.0.2.1:8388", []string{"not an access key"}},
		{"no-such-file", []string{"not an access key", "no-such-file"}},
		{"-", []string{"standard input", "no access key given"}},
	} {
		r := execute(t, home, "up", tt.arg)
		if r.code != exitFailure && r.code != exitUsage {
			t.Errorf("%q ended with %d", tt.arg, r.code)
		}
		r.want(t, r.code, tt.words...)
		if strings.Contains(r.stderr, w.key[9:40]) {
			t.Errorf("a bad key is shown: %s", r.stderr)
		}
	}
	if r := execute(t, home, "list", "--json"); strings.Contains(r.stdout, "profile\"") {
		t.Errorf("a bad key was saved: %s", r.stdout)
	}
}

// A state directory that cannot be, or that others can read, is named before anything is asked of the network.
func TestBadStateDir(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	execute(t, base, "up", w.key, "--state-dir", filepath.Join(file, "x")).want(t, exitFailure, "state directory", file)
	execute(t, base, "gateway", "init", "--state-dir", filepath.Join(file, "x")).want(t, exitFailure, "state directory",
		file)
	if runtime.GOOS != "linux" {
		return
	}
	// No directory can be made here, whoever asks.
	execute(t, base, "up", w.key, "--state-dir", "/sys/godwit").want(t, exitPermission, "/sys/godwit", "--state-dir")
	execute(t, base, "gateway", "init", "--state-dir", "/sys/godwit").want(t, exitPermission, "/sys/godwit", "--state-dir")
	open := filepath.Join(base, "profiles", "default")
	if err := errors.Join(os.MkdirAll(open, 0o755), os.Chmod(open, 0o755)); err != nil {
		t.Fatal(err)
	}
	execute(t, base, "up", w.key, "--state-dir", base).want(t, exitPermission, "chmod 700")
}

// A key that is used up is told apart: the tunnel stays and says why, another up ends with 5, and the operator sees it.
func TestUsedUp(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	key := try(t, nil, "key", "add", "small", "--limit", "200kB", "--state-dir", w.state).want(t, 0).stdout
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 300_000))
	}))
	defer site.Close()
	home := t.TempDir()
	upHere(t, home, strings.TrimSpace(key)).want(t, 0)
	if n := len(throughProxy(t, status(t, home).Proxy, site.URL)); n != 300_000 {
		t.Fatalf("%d bytes came through, below the overshoot", n)
	}
	const why = "the access key's data for this month is used up"
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(status(t, home).Error, why); {
		if time.Now().After(deadline) {
			t.Fatalf("it goes on: %+v", status(t, home))
		}
		time.Sleep(50 * time.Millisecond)
	}
	execute(t, home, "status").want(t, 0, why)
	execute(t, home, "up", "--profile", "other", "--proxy", "127.0.0.1:0", "--timeout", "2s", strings.TrimSpace(key)).
		want(t, exitRefused, why)

	r := try(t, nil, "key", "list", "--state-dir", w.state, "--json").want(t, 0)
	list := document[struct{ Keys []keyDoc }](t, r, "godwit.key.list/1")
	doc := list.Keys[len(list.Keys)-1]
	if doc.Name != "small" || doc.MonthBytes < 300_000 || doc.MonthLimit == nil || *doc.MonthLimit != 200_000 ||
		doc.State != stateGood {
		t.Errorf("%+v", doc)
	}
	try(t, nil, "key", "list", "--state-dir", w.state).want(t, 0, "of 200 kB, used up")
	try(t, nil, "key", "show", "small", "--state-dir", w.state).want(t, 0, strings.TrimSpace(key))
	r = try(t, nil, "device", "list", "--state-dir", w.state, "--json").want(t, 0)
	devices := document[struct{ Devices []deviceDoc }](t, r, "godwit.device.list/1").Devices
	if len(devices) != 1 || devices[0].MonthBytes != doc.MonthBytes {
		t.Errorf("devices %+v do not have the %d bytes of their key", devices, doc.MonthBytes)
	}
	try(t, nil, "device", "list", "--state-dir", w.state).want(t, 0, "THIS MONTH", " kB")
}
