//go:build linux && !race

package rawio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// read is read(2).
func read(fd int, p []byte) (int, error) { return call(unix.SYS_READ, fd, p) }

// write is write(2).
func write(fd int, p []byte) (int, error) { return call(unix.SYS_WRITE, fd, p) }

func call(trap uintptr, fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
