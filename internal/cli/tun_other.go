//go:build !windows

package cli

import (
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/capture/tun"
)

// createTUN makes this machine's TUN.
func createTUN() (t client.TUN, name string, err error) {
	t.Offload = true
	t.File, name, err = tun.Create("godwit%d")
	return t, name, err
}
