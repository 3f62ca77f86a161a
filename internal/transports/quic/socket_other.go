//go:build !linux

package quic

import "net"

// listenToRefusals is for Linux: elsewhere a dial waits until nobody can be expected to answer.
func listenToRefusals(net.PacketConn, bool) {}
