//go:build !linux

package egress

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// canPing: echo requests are dropped here.
const canPing = false

func openPing(bool, netip.Addr) (*net.UDPConn, error) { return nil, errors.ErrUnsupported }

func reportErrors(_, _ string, _ syscall.RawConn) error { return nil }
