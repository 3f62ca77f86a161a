package cli

import (
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
)

// createTUN makes this machine's TUN.
func createTUN() (t client.TUN, name string, err error) {
	const adapter = "Godwit"
	t.Packets, err = iface.CreateWintun(adapter)
	return t, adapter, err
}
