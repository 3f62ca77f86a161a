//go:build !linux

package https

import "net"

// These are Linux's; elsewhere the system's own ways serve.
func setUnsentLimit(net.Conn, int)   {}
func setCongestion(net.Conn, string) {}
func congestion(net.Conn) string     { return "" }
