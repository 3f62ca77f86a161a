package cli

import (
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/capture/tun"
)

// createTUN makes this machine's TUN.
func createTUN() (t client.TUN, name string, err error) {
	const adapter = "Godwit"
	t.Packets, err = tun.CreateWintun(adapter)
	return t, adapter, err
}
