package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is a network namespace and a thread that lives in it. Processes started on it die with that thread, and so
// with the program, however it ends.
type Host struct {
	Name  string
	ns    *os.File
	calls chan func()
	quit  chan struct{} // closed by Close
	done  chan struct{} // closed when no call will run any more
	once  sync.Once

	mu    sync.Mutex
	files map[string]string // what SetFile put over the machine's files, by the file's name
}

// NewHost makes an empty namespace with its loopback up; it knows IPv4 until EnableIPv6. The process needs CAP_SYS_ADMIN.
func NewHost(name string) (*Host, error) {
	h := &Host{Name: name, calls: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(h.done)
		// Never unlocked: the thread is in another namespace, and must end rather than serve other goroutines.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- os.NewSyscallError("unshare", err)
			return
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()))
		if err != nil {
			ready <- err
			return
		}
		h.ns = f
		ready <- nil
		for {
			select {
			case call := <-h.calls:
				call()
			case <-h.quit:
				return
			}
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	// Quiet and repeatable: no router solicitations, no slow-start thresholds remembered from the last connection.
	for key, value := range map[string]string{
		"net.ipv6.conf.all.disable_ipv6":     "1",
		"net.ipv6.conf.default.disable_ipv6": "1",
		"net.ipv4.tcp_no_metrics_save":       "1",
		// Tens of thousands of short connections between two addresses need every port, and soon again.
		"net.ipv4.ip_local_port_range": "1100 65535",
		"net.ipv4.tcp_tw_reuse":        "1",
	} {
		if err := h.Sysctl(key, value); err != nil && !(errors.Is(err, os.ErrNotExist) && strings.Contains(key, "ipv6")) {
			return nil, errors.Join(fmt.Errorf("host %s: %w", name, err), h.Close())
		}
	}
	if err := h.LinkUp("lo"); err != nil {
		return nil, errors.Join(fmt.Errorf("host %s: %w", name, err), h.Close())
	}
	return h, nil
}

// EnableIPv6 lets interfaces that are made from now on have IPv6 addresses. By themselves they get a
// link-local one only, at once, as they all know their neighbours.
func (h *Host) EnableIPv6() error {
	for _, kv := range [][2]string{
		{"net.ipv6.conf.default.accept_ra", "0"},
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.default.router_solicitations", "0"},
		{"net.ipv6.conf.default.disable_ipv6", "0"},
		{"net.ipv6.conf.all.disable_ipv6", "0"}, // for loopback, which is there already
	} {
		if err := h.Sysctl(kv[0], kv[1]); err != nil {
			return fmt.Errorf("host %s: IPv6: %w", h.Name, err)
		}
	}
	return nil
}

// Forward makes the host a router for the families it knows.
func (h *Host) Forward() error {
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := h.Sysctl(key, "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return nil
}

// Do runs f on the host's thread: sockets it opens and files of /proc/self/net it reads are the host's. Calls run one
// after another; f must not call Do, nor start goroutines that open sockets.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	select {
	case h.calls <- func() { result <- f() }:
		return <-result
	case <-h.done:
		return fmt.Errorf("host %s is closed", h.Name)
	}
}

// DoApart runs f in the host's network on a thread of its own, which ends with it: f may block without holding up
// others. It must not start programs, which would die with the thread, nor goroutines that open sockets.
func (h *Host) DoApart(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, as in NewHost
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("host %s: enter: %w", h.Name, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// Start starts cmd on the host. It is killed when the host is closed.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// Its own group: the keyboard's interrupt goes to this program alone, which then stops the rest in order.
	cmd.SysProcAttr.Setpgid = true
	return h.Do(cmd.Start)
}

// Close ends the host's thread, and with it every process started on it. The namespace goes when they are gone.
func (h *Host) Close() error {
	h.once.Do(func() { close(h.quit) })
	<-h.done
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, over := range h.files {
		os.Remove(over)
	}
	h.files = nil
	if h.ns == nil {
		return nil
	}
	return h.ns.Close()
}

// Sysctl sets a value such as net.ipv4.ip_forward=1 in this host only.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error { return os.WriteFile(sysctlPath(key), []byte(value), 0) })
}

// ReadSysctl reads one.
func (h *Host) ReadSysctl(key string) (value string, err error) {
	err = h.Do(func() error {
		b, err := os.ReadFile(sysctlPath(key))
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// sysctlPath names a file that shows the namespace of whichever thread opens it: open it inside Do.
func sysctlPath(key string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
}
