package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// newCgroup makes a control group below the tests' own, for a systemd to take for the root: in the real root it would
// make itself at home among the real one's. Those of tests that were killed go.
func newCgroup(t *testing.T) (dir string) {
	t.Helper()
	top := cgroupMount(t)
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, ours, _ := strings.Cut("\n"+string(groups), "\n0::")
	ours, _, _ = strings.Cut(ours, "\n")
	prefix := filepath.Join(top, ours, "godwit-e2e-")
	old, _ := filepath.Glob(prefix + "*")
	for _, dir := range old {
		removeCgroup(dir)
	}
	dir, err = os.MkdirTemp(filepath.Dir(prefix), filepath.Base(prefix))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		t.Skipf("needs a cgroup2 that root can write to: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if removeCgroup(dir); t.Failed() {
			return
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("the control group %s could not be removed", dir)
		}
	})
	return dir
}

// cgroupMount is where cgroup2 is. The mount that is there has to do. One more would set the options of them all.
func cgroupMount(t *testing.T) (top string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) { // proc_pid_mountinfo(5)
		if f := strings.Fields(line); f[3] == "/" && strings.Contains(line, " - cgroup2 ") {
			top = f[4]
		}
	}
	if top == "" {
		t.Skip("needs cgroup2: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	}
	return top
}

// removeCgroup removes a control group with those below it, unless there are processes in it.
func removeCgroup(top string) {
	events, err := os.ReadFile(filepath.Join(top, "cgroup.events"))
	if err != nil || !strings.Contains(string(events), "populated 0") {
		return
	}
	var dirs []string
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		_ = unix.Rmdir(dir)
	}
}
