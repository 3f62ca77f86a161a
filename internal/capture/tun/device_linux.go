package tun

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/rawio"
)

// device is Linux's, with segmentation and checksums left to whoever is at the other end.
type device struct {
	file    *os.File
	offload bool
}

// NewDevice is the TUN of a file: one of iface.Create's, with offloads; or one that somebody else has made, as Android's VpnService
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
