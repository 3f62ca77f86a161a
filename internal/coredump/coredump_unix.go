//go:build unix && !linux

package coredump

import "golang.org/x/sys/unix"

// Off turns core dumps off for this process and those it starts.
func Off() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
