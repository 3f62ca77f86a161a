package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What the outer process tells the one inside the namespaces.
const (
	envInside  = "GODWIT_E2E_INSIDE"  // "uid:gid" of whoever runs the tests, as seen from outside
	envEnter   = "GODWIT_E2E_ENTER"   // this process is to become a program in one of the namespaces: see enter
	envScratch = "GODWIT_E2E_SCRATCH" // a directory for the whole run
	envMissing = "GODWIT_E2E_MISSING" // why there is no binary to test
	envFailed  = "GODWIT_E2E_FAILED"  // what the compiler said instead of building one

	// envBinary is the binary under test. Set it to test one that was built elsewhere: a package's, a release's.
	envBinary = "GODWIT_E2E_BINARY"
)

// noNamespaces says why the tests that need namespaces skip; empty inside of them.
var noNamespaces string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if spec := os.Getenv(envEnter); spec != "" {
		return enter(spec)
	}
	if os.Getenv(envInside) == "" {
		scratch, err := os.MkdirTemp("", "godwit-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		if err := errors.Join(os.Setenv(envScratch, scratch), build(scratch)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code, reason := runInside()
		if reason == "" {
			return code
		}
		noNamespaces = reason
	} else if err := setUpInside(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitNoNamespaces
	}
	return m.Run()
}

// build makes the binary once, outside of the namespaces, where modules can still be fetched. Its failure is for the
// tests that want the binary to tell.
func build(scratch string) error {
	if path := os.Getenv(envBinary); path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		return os.Setenv(envBinary, abs)
	}
	if files, err := filepath.Glob("../cmd/godwit/*.go"); err != nil || files == nil {
		return os.Setenv(envMissing, "cmd/godwit is not there")
	}
	path := filepath.Join(scratch, "godwit")
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "../cmd/godwit")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return os.Setenv(envFailed, fmt.Sprintf("%v: %v\n%s", cmd, err, out))
	}
	return os.Setenv(envBinary, path)
}

// godwit is the path of the binary under test.
func godwit(t *testing.T) string {
	t.Helper()
	watchSources()
	if why := os.Getenv(envMissing); why != "" {
		t.Skip(why)
	}
	if why := os.Getenv(envFailed); why != "" {
		t.Fatal(why)
	}
	return os.Getenv(envBinary)
}

// watchSources looks at every file that the binary may be made of. Go caches a passed test until a file that the test
// looked at changes; without this it would not know that the binary is made of these.
var watchSources = sync.OnceFunc(func() {
	for _, dir := range []string{"accesskey", "client", "cmd", "internal", "packaging", "go.mod", "go.sum"} {
		_ = filepath.WalkDir(filepath.Join("..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
	}
})

// packageOf says which Debian package has a program.
var packageOf = map[string]string{
	"certutil":    "libnss3-tools",
	"chromium":    "chromium",
	"curl":        "curl",
	"dig":         "dnsutils",
	"dnsmasq":     "dnsmasq-base",
	"firefox-esr": "firefox-esr",
	"ip":          "iproute2",
	"nc":          "netcat-openbsd",
	"ndpiReader":  "libndpi-bin",
	"nft":         "nftables",
	"nginx":       "nginx-light",
	"iperf3":      "iperf3",
	"nmap":        "nmap",
	"ping":        "iputils-ping",
	"scp":         "openssh-client",
	"ssh":         "openssh-client",
	"sshd":        "openssh-server",
	"testssl":     "testssl.sh",
	"traceroute":  "traceroute",
	"tshark":      "tshark",
	"udhcpc":      "udhcpc",
	"unbound":     "unbound",

	"journalctl":      "systemd",
	"nsenter":         "util-linux",
	"setpriv":         "util-linux",
	"systemctl":       "systemd",
	"systemd-analyze": "systemd",
	"unshare":         "util-linux",
	"useradd":         "passwd",
}

// need skips the test unless all these programs are there, and names the packages that have them.
func need(t *testing.T, programs ...string) {
	t.Helper()
	var absent, packages []string
	for _, p := range programs {
		if _, err := lookPath(p); err != nil {
			absent = append(absent, p)
			if !slices.Contains(packages, packageOf[p]) {
				packages = append(packages, packageOf[p])
			}
		}
	}
	if absent != nil {
		t.Skipf("needs %s: apt-get install %s", strings.Join(absent, ", "), strings.Join(packages, " "))
	}
}

// lookPath finds programs for administrators too, whose directories are not in everyone's PATH.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", err
}
