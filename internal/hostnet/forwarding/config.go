// Package forwarding is a gateway's part of its machine's network: a TUN, behind which its sessions are, with the kernel between that
// and the world. It is made by Open, and undone exactly by the last process to end, also after a crash. Linux only.
package forwarding

import "net/netip"

// Dir is where the state lies by which a dead gateway's changes are undone.
const Dir = "/var/lib/godwit/forward"

// Config is how the kernel is to forward what a gateway's sessions send.
type Config struct {
	// Own4 and Own6 are the TUN's own addresses, as traceroute shows them: nobody reaches this machine by them.
	Own4, Own6 netip.Addr
	// Probe4 and Probe6 are networks of which the program itself sends, through the TUN and back to it.
	Probe4, Probe6 netip.Prefix
	// Source4 and Source6 are the addresses to leave by; not valid where the routes decide.
	Source4, Source6 netip.Addr
}
