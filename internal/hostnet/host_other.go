//go:build !linux && !darwin && !windows

package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
)

var errSystem = fmt.Errorf("the machine's network: not supported on %s yet: use the proxy: %w", runtime.GOOS,
	errors.ErrUnsupported)

// Dir is where nothing lies on this system.
const Dir = ""

// Protect fails: there is nothing here yet that a socket would have to be kept out of.
func Protect(network, address string, c syscall.RawConn) error { return errSystem }

// Host is this machine's network in this process's hands.
type Host struct{}

// Open fails on this system.
func Open(stateDir string) (*Host, error) { return nil, errSystem }

// Set fails on this system.
func (h *Host) Set(d Desired) error { return errors.Join(d.check(), errSystem) }

// Blocked fails on this system.
func (h *Host) Blocked() (packets, bytes uint64, err error) { return 0, 0, errSystem }

// Close has nothing to undo.
func (h *Host) Close() error { return nil }

// Rescue fails on this system.
func Rescue(stateDir string) (undone []string, err error) { return nil, errSystem }

// Captured is false on this system.
func Captured(stateDir string) (captured bool, pid int) { return false, 0 }

// Resolvers are none on this system.
func (h *Host) Resolvers() []netip.Addr { return nil }
