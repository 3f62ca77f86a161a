package tun

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/rawio"
)

// device is Linux's, with segmentation and checksums left to whoever is at the other end.
type device struct {
	file    *os.File
	offload bool
}

// Create makes a TUN with its offloads; it vanishes when the file is closed, or with this process. name may have a %d for a
// number.
func Create(name string) (f *os.File, actual string, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", fmt.Errorf("opening /dev/net/tun: %w: it takes root, or the capability to administer networks", err)
	}
	fail := func(doing string, err error) (*os.File, string, error) {
		unix.Close(fd)
		return nil, "", fmt.Errorf("%s TUN %s: %w", doing, name, err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fail("naming", err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fail("making", err)
	}
	const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	const datagrams = unix.TUN_F_USO4 | unix.TUN_F_USO6 // since Linux 6.2
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads|datagrams); err != nil {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil {
			return fail("setting up", err)
		}
	}
	return os.NewFile(uintptr(fd), "tun"), req.Name(), nil
}

// NewDevice is the TUN of a file: one of Create's, with offloads; or one that somebody else has made, as Android's VpnService
// does, of which packets come as they are.
func NewDevice(f *os.File, offload bool) Device { return &device{f, offload} }

// Read implements Device.
func (d *device) Read(b []byte) (Frame, error) {
	for {
		n, err := d.file.Read(b)
		if err != nil {
			return Frame{}, err
		}
		if !d.offload {
			return Frame{Packet: b[:n]}, nil
		}
		if f, err := parseVnet(b[:n]); err == nil {
			return f, nil
		}
	}
}

// Write implements Device.
func (d *device) Write(f Frame) error {
	if !d.offload {
		f.complete()
		_, err := d.file.Write(f.Packet)
		return err
	}
	headers := 0
	if f.SegmentSize > 0 {
		s, ok := parseSegment(f.Packet)
		if !ok {
			return errFrame
		}
		headers = s.headers(f.Packet)
	}
	var head [vnetHeader]byte
	putVnet(head[:], f, headers)
	return d.writev(head[:], f.Packet)
}

// writev writes a header and a packet as one.
func (d *device) writev(head, packet []byte) error {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Write(func(fd uintptr) bool {
		werr = rawio.Writev(int(fd), head, packet)
		return werr != unix.EAGAIN
	})
	if err != nil {
		return err
	}
	return werr
}

// Close implements Device.
func (d *device) Close() error { return d.file.Close() }
