//go:build !linux

package forwarding

import (
	"errors"
	"net/netip"
	"os"
)

// TUN is Linux's.
type TUN struct {
	File   *os.File
	Number int
}

// Open fails: it is for Linux alone.
func Open(string, Config) (*TUN, error) {
	return nil, errors.New("the kernel's forwarding is used on Linux only")
}

// Rescue has nothing to undo.
func Rescue(string) ([]string, error) { return nil, nil }

// Take is Linux's.
func (*TUN) Take(...netip.Addr) error { return errors.ErrUnsupported }

// Release is Linux's.
func (*TUN) Release(...netip.Addr) {}

// Forget is Linux's.
func (*TUN) Forget([]netip.Addr) error { return nil }

// Close is Linux's.
func (*TUN) Close() error { return nil }
