// Package network tells which network the machine is on, and whether it is another one than before. It asks the machine
// alone and sends nothing.
package network

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// State is how the machine reaches the world. States that compare unequal mean that connections may have to be made
// anew; the zero State is that there is no way out.
type State struct {
	Local4 netip.Addr   // the address that packets leave by
	Local6 netip.Prefix // of IPv6 only the network, since the address changes every day
	Router string       // the hardware address of the IPv4 router, where the system tells
}

// Now looks. Control, if not nil, is net.Dialer's, for sockets that must keep out of a tunnel.
func Now(control func(network, address string, c syscall.RawConn) error) State {
	var s State
	s.Local4 = local("udp4", "192.0.2.1:9", control) // reserved (RFC 5737, RFC 3849)
	if a := local("udp6", "[2001:db8::1]:9", control); a.IsValid() {
		s.Local6, _ = a.Prefix(64)
	}
	if s.Local4.IsValid() {
		s.Router = router()
	}
	return s
}

// Name names the network, the same whenever the machine comes back to it; empty if there is none, or no telling.
func (s State) Name() string {
	switch {
	case s.Router != "":
		return "router " + s.Router
	case s.Local4.IsValid():
		p, _ := s.Local4.Prefix(24)
		return "prefix " + p.String()
	case s.Local6.IsValid():
		return "prefix " + s.Local6.String()
	}
	return ""
}

// Sure is the Name of the network where no other network has it, and empty otherwise: what must not be used anywhere else
// cannot go by addresses that half of all homes have.
func (s State) Sure() string {
	switch {
	case s.Router != "":
		return s.Name()
	case s.Local6.IsValid() && !s.Local6.Addr().IsPrivate():
		return State{Local6: s.Local6}.Name()
	case s.Local4.IsValid() && !s.Local4.IsPrivate() && !shared.Contains(s.Local4):
		return s.Name()
	}
	return ""
}

// shared is what many providers have behind their address translation (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// local is the address that the machine would send from. Connecting a UDP socket sends nothing.
func local(network, to string, control func(network, address string, c syscall.RawConn) error) netip.Addr {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d := net.Dialer{Control: control}
	c, err := d.DialContext(ctx, network, to)
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := a.AddrPort().Addr().Unmap().WithZone("")
	if addr.IsLoopback() || addr.IsLinkLocalUnicast() {
		return netip.Addr{}
	}
	return addr
}
