//go:build !unix

package gatewaydir

import "net"

func listenPacket(address string) (net.PacketConn, error) { return net.ListenPacket("udp", address) }
