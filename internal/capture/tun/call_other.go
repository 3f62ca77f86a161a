//go:build !linux

package tun

import (
	"errors"
	"net/netip"
	"syscall"
)

// bind is Linux's, where sockets call.
func bind(syscall.RawConn, netip.Addr) (uint16, error) { return 0, errors.ErrUnsupported }
