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

func openPing(bool, netip.Addr, func(network, address string, c syscall.RawConn) error) (*net.UDPConn, error) {
	return nil, errors.ErrUnsupported
}

func reportErrors(syscall.RawConn, bool) {}
