//go:build !windows

package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
)

// createTUN makes this machine's TUN.
func createTUN() (t client.TUN, name string, err error) {
	t.Offload = true
	t.File, name, err = iface.Create("godwit%d", t.Offload)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: it takes root, or the capability to administer networks", err)
	}
	return t, name, err
}
