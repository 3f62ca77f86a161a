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

// NewDevice is the TUN of a file that somebody else has made, of which packets come as they are.
func NewDevice(f *os.File, _ bool) Device { return plain{f} }
