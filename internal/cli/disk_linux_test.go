package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// envSmallDisk makes the test binary mount so small a disk on the state directory before it becomes the program. It is
// in a namespace of its own, so that nobody else sees that disk.
const envSmallDisk = "GODWIT_TEST_SMALL_DISK"

func mountSmallDisk() error {
	size := os.Getenv(envSmallDisk)
	if size == "" {
		return nil
	}
	dir := os.Getenv("GODWIT_STATE_DIR")
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("small", dir, "tmpfs", 0, fmt.Sprintf("size=%s,mode=700", size)),
	)
}

// A full disk is said to be one, wherever in the making of a gateway it is met.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for pages := 1; pages <= 16; pages += 3 {
		size := strconv.Itoa(pages*os.Getpagesize()/1024) + "k"
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := program(t, t.TempDir(), "gateway", "init", "--endpoint", "gw.example")
		cmd.Env = append(cmd.Env, envSmallDisk+"="+size, "GODWIT_STATE_DIR="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Skipf("needs user namespaces: %v", err)
		}
		said := stderr.String()
		if strings.Contains(said, errSmallDisk) {
			t.Skipf("needs to mount in a user namespace: %s", said)
		}
		if code := cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(said, "disk is full") {
			t.Errorf("a disk of %s: code %d: %s", size, code, said)
		}
	}
}
