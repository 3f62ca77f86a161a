// Package filelock locks a file against other processes, on every system. The lock goes with the process, however that ends.
package filelock

import (
	"errors"
	"os"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked")

// Lock takes an exclusive lock for as long as f is open, in this process or in one that has inherited it. It does not wait:
// where another holds it, the error matches ErrLocked.
func Lock(f *os.File) error { return lock(f, false) }

// Wait takes the lock as Lock does, once no other holds it.
func Wait(f *os.File) error { return lock(f, true) }
