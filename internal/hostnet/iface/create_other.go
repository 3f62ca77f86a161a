//go:build !linux && !darwin && !windows

package iface

import (
	"errors"
	"os"
)

// Create is not supported on this system.
func Create(string, bool) (f *os.File, actual string, err error) {
	return nil, "", errors.New("a TUN is not supported on this system yet: use the proxy")
}
