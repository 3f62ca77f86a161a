//go:build !windows

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
)

// createTUN makes this machine's TUN.
func createTUN() (t client.TUN, name string, err error) {
	t.Offload, t.Calls = true, runtime.GOOS == "linux"
	t.File, name, err = iface.Create("godwit%d", t.Offload)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: load the kernel's module tun, or give the container the device", err)
	}
	return t, name, err
}
