// Package netnstest runs a package's tests inside a netns.Sandbox.
package netnstest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// Main is for TestMain: it runs the tests inside, or outside with Need skipping, where namespaces cannot be made.
func Main(m *testing.M) {
	runtime.LockOSThread()
	args, isInside, err := netns.Enter(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if isInside {
		os.Args = append(os.Args[:1], args...)
		before := goleak.IgnoreCurrent() // what a library starts when it is linked
		code := m.Run()
		if leak := goleak.Find(before); code == 0 && leak != nil {
			fmt.Fprintln(os.Stderr, leak)
			code = 1
		}
		os.Exit(code)
	}
	user := os.Geteuid() != 0
	code, err := netns.Sandbox(context.Background(), netns.SandboxConfig{UserNamespace: user}, args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tests that need namespaces are skipped: %v\n", err)
		os.Setenv(outside, err.Error())
		code = m.Run()
	}
	os.Exit(code)
}

// outside is set to the reason when there is no sandbox.
const outside = "LAB_TEST_OUTSIDE"

// Need skips a test that must be inside.
func Need(t testing.TB) {
	t.Helper()
	if why := os.Getenv(outside); why != "" {
		t.Skip("no namespaces here: " + why)
	}
}

// NeedTUN skips a test that makes a TUN where this user may not, in a namespace either.
func NeedTUN(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a TUN: %v: chmod 666 /dev/net/tun lets everybody make one, as most systems do", err)
	}
	f.Close()
}
