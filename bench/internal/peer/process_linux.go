package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// Site is where a peer is to run.
type Site struct {
	Net *topology.Net
	Dir string // private, empty, in memory
}

// Process is one end of a peer: the leader of its own process group.
type Process struct {
	Role string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// start runs a program on a host, its output in a file.
func (s *Site) start(h *netns.Host, role string, env []string, path string, args ...string) (*Process, error) {
	p := &Process{Role: role, log: filepath.Join(s.Dir, role+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = s.Dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "TMPDIR=" + s.Dir}, env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := h.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the leader, and the number of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Died says how it ended, with its last words, if it ended already.
func (p *Process) Died() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s ended (%v): %s", p.Role, p.err, p.LastWords())
	default:
		return nil
	}
}

// LastWords are the last lines of its output.
func (p *Process) LastWords() string {
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 1500
	if n, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, n-most), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, most))
	return strings.TrimSpace(string(bytes.ToValidUTF8(b, nil)))
}

// Stop asks the group to end and kills what is left after two seconds. It is safe on a nil Process.
func (p *Process) Stop() {
	if p == nil {
		return
	}
	syscall.Kill(-p.PID(), syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
}

// until tries ok every few milliseconds, for at most ten seconds and only while p lives.
func (p *Process) until(ctx context.Context, what string, ok func() bool) error {
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-p.done:
			return p.Died()
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("%s: %s: not in 10 s: %s", p.Role, what, p.LastWords())
		case <-time.After(3 * time.Millisecond):
		}
	}
	return nil
}

// listens waits until something on the host listens on a port, without connecting to it.
func (p *Process) listens(ctx context.Context, h *netns.Host, network string, port int) error {
	return p.until(ctx, fmt.Sprintf("listen on %s %d", network, port), func() bool {
		found := false
		h.Do(func() error {
			for _, v := range []string{"", "6"} {
				b, _ := os.ReadFile("/proc/thread-self/net/" + network + v)
				found = found || listed(b, network, port)
			}
			return nil
		})
		return found
	})
}

// listed looks for a bound UDP or listening TCP port in a table of /proc/net:
//
//	sl local_address rem_address st ...
//	0: 0100007F:0438 00000000:0000 0A ...
func listed(table []byte, network string, port int) bool {
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && (network == "udp" || f[3] == "0A") {
			return true
		}
	}
	return false
}
