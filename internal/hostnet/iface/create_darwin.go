package iface

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// What sys/sys_domain.h and net/if_utun.h call these.
const (
	sysprotoControl = 2
	utunOptIfname   = 2
	utunControl     = "com.apple.net.utun_control"
)

// Create makes a utun, which vanishes when the file is closed, or with this process. The system names it; there are no offloads.
func Create(string, bool) (f *os.File, actual string, err error) {
	fd, err := unix.Socket(unix.AF_SYSTEM, unix.SOCK_DGRAM, sysprotoControl)
	if err != nil {
		return nil, "", fmt.Errorf("opening a utun: %w", err)
	}
	unix.CloseOnExec(fd)
	info := &unix.CtlInfo{}
	copy(info.Name[:], utunControl)
	if err = unix.IoctlCtlInfo(fd, info); err == nil {
		err = unix.Connect(fd, &unix.SockaddrCtl{ID: info.Id}) // unit 0 is any that is free
	}
	if err == nil {
		actual, err = unix.GetsockoptString(fd, sysprotoControl, utunOptIfname)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, "", fmt.Errorf("making a utun: %w", err)
	}
	return os.NewFile(uintptr(fd), actual), actual, nil
}
