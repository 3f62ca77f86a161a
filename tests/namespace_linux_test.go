package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// exitNoNamespaces is how the process inside says that it could not make itself at home.
const exitNoNamespaces = 99

// runInside runs this test binary again, with the same flags, as the first process of its own namespaces, and waits for
// it. A reason is why that is not possible here.
func runInside() (code int, reason string) {
	// The kernel kills the child when the thread that started it ends, so this thread must not end before.
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return 0, err.Error()
	}
	start := func(user bool) (*exec.Cmd, error) {
		cmd := exec.Command(self, os.Args[1:]...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%d", envInside, os.Getuid(), os.Getgid()))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
			Pdeathsig:  syscall.SIGKILL,
		}
		if user {
			cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return cmd, cmd.Start()
	}
	cmd, err := start(os.Getuid() != 0)
	if errors.Is(err, syscall.EPERM) && os.Getuid() == 0 { // a container's root, without the power
		cmd, err = start(true)
	}
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if err != nil {
		return 0, fmt.Sprintf("needs user namespaces, which are off here (%v): run as root, or "+
			"sysctl kernel.unprivileged_userns_clone=1", err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, ""
	case !errors.As(err, &exit):
		return 1, ""
	case exit.ExitCode() == exitNoNamespaces:
		return 0, "needs namespaces with their own /proc and /run, which cannot be mounted here: run as root"
	case exit.ExitCode() < 0:
		return 1, ""
	}
	return exit.ExitCode(), ""
}

// setUpInside gives the process inside its own /proc, an empty /run (in which no daemon of the machine can be met), and
// a loopback.
func setUpInside() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Where systemd runs, /etc/resolv.conf points into /run: keep a place there for each host's own to be put over.
	resolv, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return fmt.Errorf("find resolv.conf: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if strings.HasPrefix(resolv, "/run/") {
		if err := os.MkdirAll(filepath.Dir(resolv), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(resolv, nil, 0o644); err != nil {
			return err
		}
	}
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		return err
	}
	return loopbackUp()
}

// loopbackUp raises lo in the calling thread's network.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("raise lo: %w", err)
	}
	return nil
}

// needNamespaces skips the test where none can be had.
func needNamespaces(t *testing.T) {
	t.Helper()
	if noNamespaces != "" {
		t.Skip(noNamespaces)
	}
}

// A host is one machine of the test's world: a network of its own, and what its programs find in /etc.
type host struct {
	name  string            // its namespace's name too, as "ip -n" takes it
	files map[string]string // what lies over a file of the machine's, by the file's name
}

var hosts atomic.Int32

// newHost makes a host with nothing but a loopback.
func newHost(t *testing.T, name string) *host {
	t.Helper()
	h := &host{name: fmt.Sprintf("%s%d", name, hosts.Add(1)), files: map[string]string{}}
	file := h.file()
	if err := os.WriteFile(file, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, which is in another network now, ends with this function
		made <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("make a network: %w", err)
			}
			if err := unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("keep a network: %w", err)
			}
			return loopbackUp()
		}()
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(file, unix.MNT_DETACH)
		_ = os.Remove(file)
	})
	return h
}

func (h *host) file() string { return "/run/netns/" + h.name }

// do calls f in the host's network: sockets that f makes, in its own goroutine, belong to the host for ever. f must not
// start programs: see command.
func (h *host) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, as above
		done <- func() error {
			if err := setNet(h.file()); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

func setNet(file string) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", file, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %q: %w", file, err)
	}
	return nil
}

// An entry is what enter needs to know.
type entry struct {
	Net   string
	Files map[string]string
	// User runs the program as the user who started the tests, rather than as the namespaces' root.
	User bool
}

// command prepares a program to run on the host, as root there.
func (h *host) command(program string, args ...string) *exec.Cmd {
	return h.commandFor(entry{Net: h.file(), Files: h.files}, program, args...)
}

func (h *host) commandFor(e entry, program string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{program}, args...)...)
	spec, err := json.Marshal(e)
	if path, lookErr := lookPath(program); lookErr == nil {
		cmd.Args[1] = path
	} else {
		err = errors.Join(err, lookErr)
	}
	if err != nil {
		cmd.Err = err
	}
	cmd.Env = append(cleanEnv(), envEnter+"="+string(spec), envInside+"="+os.Getenv(envInside))
	return cmd
}

// cleanEnv is an environment in which nothing of the user's steers a program: no proxies, no configuration.
func cleanEnv() []string {
	scratch := os.Getenv(envScratch)
	return []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + scratch, "TMPDIR=" + scratch, "LANG=C.UTF-8",
		"GORACE=halt_on_error=1",
	}
}

// enter turns this process into the program of its arguments, on the host that spec names.
func enter(spec string) int {
	runtime.LockOSThread()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "enter:", err)
		return exitNoNamespaces
	}
	var e entry
	if err := json.Unmarshal([]byte(spec), &e); err != nil {
		return fail(err)
	}
	if err := setNet(e.Net); err != nil {
		return fail(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fail(fmt.Errorf("unshare mounts: %w", err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fail(fmt.Errorf("make mounts private: %w", err))
	}
	for over, file := range e.Files {
		target, err := filepath.EvalSymlinks(over)
		if err != nil {
			return fail(err)
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fail(fmt.Errorf("put %q over %q: %w", file, target, err))
		}
	}
	// Whatever is tested must not load modules into the real kernel, even when the real root tests it.
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_MODULE, 0, 0, 0); err != nil {
		return fail(fmt.Errorf("drop CAP_SYS_MODULE: %w", err))
	}
	args := os.Args[1:]
	uid, gid := outsideIDs()
	for _, name := range []string{envEnter, envInside} {
		_ = os.Unsetenv(name)
	}
	if !e.User || uid == 0 {
		return fail(unix.Exec(args[0], args, os.Environ()))
	}
	return enterAsUser(uid, gid, args)
}

// enterAsUser runs the program in one more user namespace, in which the user has the number it has outside: the
// namespaces' root cannot become anyone else, and sshd minds that.
func enterAsUser(uid, gid int, args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: 0, Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "enter:", err)
		return 1
	}
	return 0
}

// outsideIDs are the numbers of the user who runs the tests.
func outsideIDs() (uid, gid int) {
	u, g, _ := strings.Cut(os.Getenv(envInside), ":")
	uid, _ = strconv.Atoi(u)
	gid, _ = strconv.Atoi(g)
	return uid, gid
}

// run runs a program on the host to its end and returns what it printed. It must succeed.
func (h *host) run(t *testing.T, stdin string, program string, args ...string) string {
	t.Helper()
	cmd := h.command(program, args...)
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %s %s: %v\n%s%s", h.name, program, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}
