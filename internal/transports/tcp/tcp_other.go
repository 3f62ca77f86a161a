//go:build !linux

package tcp

import (
	"net"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// These are Linux's; elsewhere the system's own ways serve.
func path(net.Conn) transport.Path   { return transport.Path{} }
func setUnsentLimit(net.Conn, int)   {}
func setCongestion(net.Conn, string) {}
func congestion(net.Conn) string     { return "" }

type startup struct{}

func (*startup) look(net.Conn, bool) {}
