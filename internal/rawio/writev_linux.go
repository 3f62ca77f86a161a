package rawio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Writev is writev(2) of two pieces, for a descriptor that takes both at once or neither, as a TUN does.
func Writev(fd int, a, b []byte) error {
	pieces := [...]unix.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	pieces[0].SetLen(len(a))
	pieces[1].SetLen(len(b))
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&pieces)), uintptr(len(pieces)))
	if errno != 0 {
		return errno
	}
	return nil
}
