package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// Process is one end of a peer: the leader of its own process group.
type Process struct {
	Role string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
	// parts are what this program itself does for the peer; they are closed by Stop.
	parts []io.Closer
	// others are programs elsewhere that belong to it; Stop stops them, too.
	others []*Process
}

// start runs a program on a host, its output in a file.
func (s *Site) start(h *netns.Host, role string, env []string, path string, args ...string) (*Process, error) {
	cmd := exec.Command(path, args...)
	cmd.Env = env
	return s.startCommand(h, role, cmd)
}

// privateRun is a setup for programs that take their socket or process number in /run to be the only one of its kind on a
// machine, where here two share one.
const privateRun = `mount --bind "$dir" /run`

// startPrivate runs a program with mounts of its own, which setup makes before, in a shell: $dir is a directory for them, "$@" the
// program.
func (s *Site) startPrivate(h *netns.Host, role string, env []string, setup, path string, args ...string) (*Process, error) {
	dir := s.private(role)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", append([]string{
		"-c", `dir=$1 && shift && ` + setup + ` && exec "$@"`, "sh", dir, path}, args...)...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return s.startCommand(h, role, cmd)
}

// private is the directory of startPrivate.
func (s *Site) private(role string) string { return filepath.Join(s.Dir, role+".run") }

func (s *Site) startCommand(h *netns.Host, role string, cmd *exec.Cmd) (*Process, error) {
	if len(s.Wrap) > 0 {
		wrapped := exec.Command(s.Wrap[0], slices.Concat(s.Wrap[1:], []string{cmd.Path}, cmd.Args[1:])...)
		wrapped.Env, wrapped.SysProcAttr = cmd.Env, cmd.SysProcAttr
		cmd = wrapped
	}
	p := &Process{Role: role, cmd: cmd, log: filepath.Join(s.Dir, role+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Dir = s.Dir
	cmd.Env = append(s.environment(), cmd.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (s *Site) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + s.Dir, "TMPDIR=" + s.Dir}
}

// run runs a program on a host to its end and returns what it printed.
func (s *Site) run(ctx context.Context, h *netns.Host, path string, args ...string) (stdout []byte, err error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = s.Dir, s.environment()
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := h.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}

// write puts a file that only this user can read into s.Dir and returns its path.
func (s *Site) write(name string, content []byte) (path string, err error) {
	path = filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, content, 0o600)
}

// at is the gateway's address with a port.
func (s *Site) at(port int) string { return netip.AddrPortFrom(s.GatewayAddr, uint16(port)).String() }

// PID is the leader, and the number of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Others are programs elsewhere that belong to it, such as a relay or a web server before it.
func (p *Process) Others() []*Process {
	if p == nil {
		return nil
	}
	return p.others
}

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

// LastWords are the last lines of its output. They may hold addresses of the lab.
func (p *Process) LastWords() string {
	return strings.TrimSpace(string(bytes.ToValidUTF8(p.said(1500), nil)))
}

// said is the end of its output.
func (p *Process) said(most int64) []byte {
	f, err := os.Open(p.log)
	if err != nil {
		return nil
	}
	defer f.Close()
	if n, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, n-most), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, most))
	return b
}

// Stop asks the group to end and kills what is left after two seconds. It is safe on a nil Process.
func (p *Process) Stop() {
	if p == nil {
		return
	}
	for _, c := range p.parts {
		c.Close()
	}
	for _, o := range p.others {
		defer o.Stop()
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
