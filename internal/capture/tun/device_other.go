//go:build !linux && !darwin

package tun

import (
	"errors"
	"os"
)

// ErrUnsupported is what there is instead of a TUN, on systems that this is not written for yet.
var ErrUnsupported = errors.New("a TUN is not supported on this system yet: use the proxy")

// Create is not supported on this system.
func Create(string) (f *os.File, actual string, err error) { return nil, "", ErrUnsupported }

// plain is a TUN that somebody else has made: packets, and nothing in front of them.
type plain struct{ file *os.File }

// NewDevice is the TUN of a file that somebody else has made, of which packets come as they are.
func NewDevice(f *os.File, _ bool) Device { return plain{f} }

// Read implements Device.
func (d plain) Read(b []byte) (Frame, error) {
	n, err := d.file.Read(b)
	return Frame{Packet: b[:max(n, 0)]}, err
}

// Write implements Device.
func (d plain) Write(f Frame) error {
	f.complete()
	_, err := d.file.Write(f.Packet)
	return err
}

// Close implements Device.
func (d plain) Close() error { return d.file.Close() }
