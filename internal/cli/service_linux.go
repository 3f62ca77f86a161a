package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// needSystemd fails where no systemd runs.
func needSystemd() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
		return errNoSystemd
	}
	return nil
}

// trusted finds out whether a service of root's may be this program: the service does not see the homes, and who may write
// the file, or put another in its place, would be root.
func trusted(self string) error {
	for _, dir := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(self, dir) {
			return fmt.Errorf("the service cannot use %q: it sees nothing of %s", self, strings.TrimSuffix(dir, "/"))
		}
	}
	for path := self; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		mask := os.FileMode(0o022)
		if info.IsDir() {
			mask = 0o002 // Debian gives /usr/local to a group
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 || info.Mode().Perm()&mask != 0 {
			return fmt.Errorf("the service cannot use %q: others than root may change %s", self, path)
		}
		if path == "/" {
			return nil
		}
	}
}

// comesBack reports whether systemd, which has asked this service to end, will start it again at once, or is about to end
// everything: then there is nobody yet to whom the network could be given back.
func comesBack() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain").Output()
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(out)) { // number, unit, job, state
		if f := strings.Fields(line); len(f) > 2 && (f[1] == serviceUnit && f[2] != "stop" || f[1] == "shutdown.target") {
			return true
		}
	}
	return false
}
