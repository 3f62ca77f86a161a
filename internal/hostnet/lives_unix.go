//go:build linux || darwin

package hostnet

import (
	"golang.org/x/sys/unix"
)

// lives reports whether there is such a process.
func lives(pid int) bool { return unix.Kill(pid, 0) != unix.ESRCH }
