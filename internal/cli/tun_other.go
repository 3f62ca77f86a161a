//go:build !windows

package cli

import (
	"runtime"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/capture/tun"
)

// createTUN makes this machine's TUN.
func createTUN() (t client.TUN, name string, err error) {
	t.Offload, t.Calls = true, runtime.GOOS == "linux"
	t.File, name, err = tun.Create("godwit%d")
	return t, name, err
}
