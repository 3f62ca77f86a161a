//go:build !linux

package egress

import "syscall"

func bindLate(syscall.RawConn) {}
