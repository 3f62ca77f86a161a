package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// report is the one line that the process in the background says to the one that started it.
type report struct {
	Proxy   string `json:"proxy,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Problem string `json:"problem,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Code    int    `json:"code,omitempty"`
}

// report says it, and lets go of standard output: nobody listens from now on.
func (a *app) report(r report) {
	json.NewEncoder(a.stdout).Encode(r)
	if f, ok := a.stdout.w.(*os.File); ok {
		f.Close()
	}
	a.stdout.w = io.Discard
}

// startBackground starts this program again, out of reach of the terminal, and returns when it is up or has failed. The
// key goes by a pipe: neither arguments nor environment are secret.
func (a *app) startBackground(ctx context.Context, r upRequest) (report, error) {
	self, err := os.Executable()
	if err != nil {
		return report{}, fmt.Errorf("finding this program, to start it in the background: %w", err)
	}
	dir := r.profiles.path(r.profile)
	logFile, err := openLog(dir) // for what the runtime says of a crash
	if err != nil {
		return report{}, err
	}
	defer logFile.Close()
	args := []string{"up", "-", "--foreground", "--report", "--profile", r.profile,
		"--state-dir", filepath.Dir(r.profiles.dir), "--proxy", r.proxy, "--links", strconv.Itoa(r.links),
		"--timeout", r.timeout.String(), "--log-format", a.logFormat}
	if len(r.transports) > 0 {
		args = append(args, "--transport", strings.Join(r.transports, ","))
	}
	for _, resolver := range r.resolvers {
		args = append(args, "--resolver", resolver)
	}
	args = append(args, "--browser", r.browser, "--fragment", r.fragment, "--shape", r.shape)
	args = append(args, fmt.Sprintf("--tun=%v", r.tun), fmt.Sprintf("--lan=%v", r.lan), fmt.Sprintf("--router=%v", r.router))
	args = append(args, fmt.Sprintf("--names-first=%v", r.namesFirst))
	for _, split := range r.splitDNS {
		args = append(args, "--split-dns", split)
	}
	if r.congestion != "" {
		args = append(args, "--congestion", r.congestion)
	}
	if a.logLevel != "" {
		args = append(args, "--log-level", a.logLevel)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir // not where the user is, which may be unmounted
	cmd.Env = withoutKey(os.Environ())
	cmd.Stdin = strings.NewReader(r.key.Text())
	cmd.Stderr = logFile.f
	cmd.SysProcAttr = detached()
	out, in, err := os.Pipe()
	if err != nil {
		return report{}, err
	}
	defer out.Close()
	cmd.Stdout = in
	err = cmd.Start()
	in.Close()
	if err != nil {
		return report{}, fmt.Errorf("starting the background process: %w", err)
	}
	ended := make(chan error, 1) // nobody may wait for it
	go func() { ended <- cmd.Wait() }()

	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	line, readErr := bufio.NewReader(io.LimitReader(out, 64<<10)).ReadBytes('\n')
	if !stop() {
		<-ended
		return report{}, context.Canceled
	}
	var got report
	if readErr != nil || json.Unmarshal(line, &got) != nil {
		cmd.Process.Kill()
		return report{}, fmt.Errorf("the background process ended without a word (%v): see %s", <-ended, logFile.path)
	}
	if got.Code != 0 {
		<-ended // it has let go of the profile
		return report{}, &reportedError{problem{text: got.Problem, hint: got.Hint, code: got.Code}}
	}
	return got, nil
}

// withoutKey is the environment without a key in it: whoever may look at a process sees that.
func withoutKey(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "GODWIT_KEY=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// maxLog bounds the log of a process in the background: there are two files of this size at most.
const maxLog = 1 << 20

// logFile is a log that forgets its older half when it has grown.
type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
	size int64
}

func openLog(dir string) (*logFile, error) {
	l := &logFile{path: filepath.Join(dir, "client.log")}
	return l, l.open()
}

func (l *logFile) open() error {
	if info, err := os.Stat(l.path); err == nil && info.Size() >= maxLog {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return fmt.Errorf("log file: %w", err)
		}
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("log file: %w", err), f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

// Write implements io.Writer. A full disk costs lines of the log and nothing else.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= maxLog {
		old := l.f
		if err := l.open(); err != nil {
			return 0, err
		}
		old.Close()
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
