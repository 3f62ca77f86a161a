package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// envLab makes this binary a lab of its own: a sandbox with a host that runs a program, until it is killed.
const envLab = "NETNS_TEST_LAB"

func TestMain(m *testing.M) {
	if os.Getenv(envLab) != "" {
		os.Exit(lab())
	}
	netnstest.Main(m)
}

// lab prints a line once it is there.
func lab() int {
	runtime.LockOSThread()
	_, inside, err := netns.Enter(os.Args[1:])
	if err == nil && !inside {
		code, err := netns.Sandbox(context.Background(), netns.SandboxConfig{UserNamespace: os.Getenv(envLab) == "user"}, nil)
		fmt.Fprintln(os.Stderr, code, err)
		return 1
	}
	if err == nil {
		err = labInside()
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func labInside() error {
	a, err := netns.NewHost("a")
	if err != nil {
		return err
	}
	b, err := netns.NewHost("b")
	if err != nil {
		return err
	}
	if err := netns.Connect(a, "eth0", b, "eth0"); err != nil {
		return err
	}
	if err := a.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24"), ""); err != nil {
		return err
	}
	if err := a.SetNames(netns.Name{Name: "a.example", Addr: netip.MustParseAddr("192.0.2.1")}); err != nil {
		return err
	}
	// One program of the host's, and one that has left its parent and its process group.
	for _, c := range []string{"exec sleep 1000", "setsid sleep 1000 & exit"} {
		if err := a.Start(exec.Command("sh", "-c", c)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	time.Sleep(time.Hour) // waiting for nothing at all would be a deadlock to a program without C
	return errors.New("nobody killed it")
}

func startLab(t *testing.T) *exec.Cmd {
	t.Helper()
	netnstest.Need(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envLab+"=root")
	if inUserNamespace(t) {
		cmd.Env = append(os.Environ(), envLab+"=user")
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the lab says %q: %v", line, err)
	}
	return cmd
}

// inUserNamespace says whether these tests are root only in a user namespace.
func inUserNamespace(t *testing.T) bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	must(t, err)
	return !strings.Contains(string(b), "4294967295")
}

// namespaces lists those that any process seen from here is in.
func namespaces(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	links, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/*")
	must(t, err)
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil {
			found[to] = true
		}
	}
	return found
}

// TestTwoLabsAtOnceAndNothingLeft: two labs with the same hosts, addresses and names do not meet, and a lab whose outer
// program is killed leaves no process and with that no namespace.
func TestTwoLabsAtOnceAndNothingLeft(t *testing.T) {
	before := namespaces(t)
	first := startLab(t)
	one := namespaces(t)
	second := startLab(t)
	two := namespaces(t)
	if a, b := added(before, one), added(one, two); a < 4 || a != b {
		t.Errorf("the labs have %d and %d namespaces", a, b)
	}
	must(t, first.Process.Kill(), second.Process.Kill())
	first.Wait()
	second.Wait()
	deadline := time.Now().Add(30 * time.Second)
	for {
		// The labs' inner programs are this one's orphans now, if it is process 1.
		unix.Wait4(-1, nil, unix.WNOHANG, nil)
		left := added(before, namespaces(t))
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d namespaces are left", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// added counts what is in now and was not before.
func added(before, now map[string]bool) (n int) {
	for ns := range now {
		if !before[ns] {
			n++
		}
	}
	return n
}
