package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The program runs twice. The outer one starts itself again in new user, network, mount and process namespaces and
// waits; the inner one is process 1 there, so that when it ends, for whatever reason, the kernel ends everything it
// started and frees every namespace, interface and temporary file system with it. If the outer one dies, the inner one
// is killed.

const (
	markPID   = "sandboxed-pid" // first argument of the inner program
	markNoPID = "sandboxed"
	// exitNoProc is how the inner program says that it may not mount /proc, as in some containers.
	exitNoProc = 111
)

// SandboxConfig says how Sandbox isolates.
type SandboxConfig struct {
	// UserNamespace makes a user namespace too, which is what lets a normal user do all this. Root can do without,
	// and must where user namespaces are off.
	UserNamespace bool
}

// Sandbox runs this program again, isolated, with the same arguments, and returns its exit code. The calling goroutine
// must be locked to the main thread for as long as the program lives. Interrupts are passed on; a third one kills.
func Sandbox(ctx context.Context, cfg SandboxConfig, args []string) (int, error) {
	code, err := sandbox(ctx, cfg, append([]string{markPID}, args...), unix.CLONE_NEWPID)
	if err == nil && code == exitNoProc {
		return sandbox(ctx, cfg, append([]string{markNoPID}, args...), 0)
	}
	return code, err
}

func sandbox(ctx context.Context, cfg SandboxConfig, args []string, flags uintptr) (int, error) {
	runtime.LockOSThread() // PDEATHSIG speaks of the thread that forked
	// Root may grant what is inside, which has no privilege over the real machine, one thing that the link model needs.
	unix.Setrlimit(unix.RLIMIT_RTPRIO, &unix.Rlimit{Cur: 1, Max: 1})
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | flags,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true,
	}
	if cfg.UserNamespace {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	for n := 1; ; {
		select {
		case s := <-signals:
			if n++; n > 3 {
				s = syscall.SIGKILL
			}
			cmd.Process.Signal(s)
		case <-ctx.Done():
			cmd.Process.Signal(syscall.SIGTERM)
			ctx = context.Background()
		case err := <-waited:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				if exit.ExitCode() < 0 {
					return 0, fmt.Errorf("isolated program: %w", err)
				}
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}

// Enter is the first thing a program calls that uses Sandbox. In the inner program it finishes the isolation and
// returns the arguments with inside true; in the outer one it returns them unchanged. Inside, /run is an empty file
// system in memory that nobody else sees.
func Enter(args []string) (rest []string, inside bool, err error) {
	if len(args) == 0 || args[0] != markPID && args[0] != markNoPID {
		return args, false, nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, true, fmt.Errorf("make mounts private: %w", err)
	}
	if args[0] == markPID {
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			os.Exit(exitNoProc)
		}
	}
	for _, dir := range []string{"/run", "/var/run"} {
		if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
			continue // missing, or a link to the other
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return nil, true, fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	// The namespace's own loopback, for whatever runs on none of the hosts.
	i, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, true, err
	}
	if err := newMsg(unix.RTM_NEWLINK, 0, ifinfo(i.Index, unix.IFF_UP, unix.IFF_UP)).call(); err != nil {
		return nil, true, fmt.Errorf("bring up loopback: %w", err)
	}
	return args[1:], true, nil
}

// SetHosts makes name mean addr for every program in the sandbox, and nothing else but localhost.
func SetHosts(name string, addr netip.Addr) error {
	const file = "/run/hosts"
	if err := os.WriteFile(file, fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n", addr, name), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over /etc/hosts: %w", err)
	}
	return nil
}

// UserNamespaces reports whether this user may make user namespaces, and if not, why.
func UserNamespaces() error {
	for _, f := range []struct{ path, bad, hint string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"},
	} {
		if b, err := os.ReadFile(f.path); err == nil && strings.TrimSpace(string(b)) == f.bad {
			return errors.New(f.hint)
		}
	}
	return nil
}
