package coredump

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// envOff makes the test binary turn its core dumps off and say what the kernel thinks of that.
const envOff = "GODWIT_TEST_COREDUMP_OFF"

func TestMain(m *testing.M) {
	if os.Getenv(envOff) != "" {
		err := Off()
		var limit unix.Rlimit
		dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err == nil {
			err = unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		}
		if err == nil && dumpable == 0 && limit == (unix.Rlimit{}) {
			os.Stdout.WriteString("off")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOff(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envOff+"=1")
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "off" {
		t.Errorf("%q, %v", out, err)
	}
}
