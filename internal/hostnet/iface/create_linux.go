package iface

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Create makes a TUN, with offloads or of one packet to each read and write; it vanishes when the file is closed, or with this
// process. name may have a %d for a number.
func Create(name string, offload bool) (f *os.File, actual string, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	fail := func(doing string, err error) (*os.File, string, error) {
		unix.Close(fd)
		return nil, "", fmt.Errorf("%s TUN %s: %w", doing, name, err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fail("naming", err)
	}
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if offload {
		flags |= unix.IFF_VNET_HDR
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fail("making", err)
	}
	if offload {
		const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		const datagrams = unix.TUN_F_USO4 | unix.TUN_F_USO6 // since Linux 6.2
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads|datagrams); err != nil {
			if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil {
				return fail("setting up", err)
			}
		}
	}
	return os.NewFile(uintptr(fd), "tun"), req.Name(), nil
}
