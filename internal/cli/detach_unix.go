//go:build unix

package cli

import "syscall"

// detached starts a process in a session of its own, which no terminal's end or ^C reaches.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
