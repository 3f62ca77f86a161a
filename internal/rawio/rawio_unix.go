//go:build unix && (!linux || race)

package rawio

import "golang.org/x/sys/unix"

// read is read(2).
func read(fd int, p []byte) (int, error) { return unix.Read(fd, p) }

// write is write(2).
func write(fd int, p []byte) (int, error) { return unix.Write(fd, p) }
