//go:build linux || darwin

package hostnet

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that another process holds the lock.
var errLocked = errors.New("locked")

// lock takes an exclusive lock for as long as f is open. It does not wait.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// lives reports whether there is such a process.
func lives(pid int) bool { return unix.Kill(pid, 0) != unix.ESRCH }
