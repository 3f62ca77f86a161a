package hostnet

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Captured reports whether this machine's network is Godwit's, and by which process: 0 if that one has died, or if this user
// may not know. It changes nothing, and takes no privilege: the routing rules are for everybody to read.
func Captured(stateDir string) (captured bool, pid int) {
	for _, family := range families {
		if have, err := ourRules(family); err == nil && len(have) > 0 {
			captured = true
		}
	}
	if !captured {
		return false, 0
	}
	// The lock is not tried: for that moment a process that begins would find it taken.
	text, err := os.ReadFile(filepath.Join(stateDir, "lock"))
	if err != nil {
		return true, 0
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || unix.Kill(pid, 0) == unix.ESRCH {
		return true, 0
	}
	return true, pid
}
