//go:build !linux

package hostnet

import (
	"errors"
	"net/netip"
	"os"
)

// Forwarding is Linux's.
type Forwarding struct {
	File   *os.File
	Number int
}

// OpenForwarding fails: it is for Linux alone.
func OpenForwarding(string, Forward) (*Forwarding, error) {
	return nil, errors.New("the kernel's forwarding is used on Linux only")
}

// RescueForwarding has nothing to undo.
func RescueForwarding(string) ([]string, error) { return nil, nil }

// Take is Linux's.
func (*Forwarding) Take(...netip.Addr) error { return errors.ErrUnsupported }

// Release is Linux's.
func (*Forwarding) Release(...netip.Addr) {}

// Forget is Linux's.
func (*Forwarding) Forget([]netip.Addr) error { return nil }

// Close is Linux's.
func (*Forwarding) Close() error { return nil }
