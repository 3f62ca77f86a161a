package hostnet

import "net/netip"

// ForwardDir is where the state lies by which a dead gateway's changes are undone.
const ForwardDir = "/var/lib/godwit/forward"

// Forward is how the kernel is to forward what a gateway's sessions send.
type Forward struct {
	// Own4 and Own6 are the TUN's own addresses, as traceroute shows them: nobody reaches this machine by them.
	Own4, Own6 netip.Addr
	// Probe4 and Probe6 are networks of which the program itself sends, through the TUN and back to it.
	Probe4, Probe6 netip.Prefix
	// Source4 and Source6 are the addresses to leave by; not valid where the routes decide.
	Source4, Source6 netip.Addr
}
