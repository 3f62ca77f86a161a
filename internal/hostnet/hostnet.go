// Package hostnet makes the machine's network what it must be while Godwit carries its traffic: routes, firewall, DNS
// settings and the few kernel settings these need. It is set as a whole, can be set again at any time, and is undone
// exactly, also by another process after a crash.
//
// On Linux two things hold independently of each other what must not leak, and neither names a physical interface, so
// that those may come, go and change addresses unheard:
//
//	rules and routes   what is not marked is routed by a table of our own: into the TUN, or else nowhere. The machine's
//	                   main table, which DHCP servers and router advertisements write to, is not asked.
//	firewall           table inet godwit drops what leaves by anything but the TUN and is neither marked, DHCP,
//	                   neighbour discovery, local nor direct. It belongs to no process, and so outlives any.
//
// On macOS (host_darwin.go, mac.go) routes narrower than a default one lead into the TUN, and pf's rules, by the group of this
// process, hold what must not leak. On Windows (host_windows.go, windows.go) it is the same routes, and rules of the Windows
// Filtering Platform by this program's file. Neither has been tested on the system itself.
//
// Below it are what several of these share, and what is whole by itself:
//
//	lan          what of the local network may be reached beside the tunnel, on every system
//	nft          firewall tables of Linux; sysctl, its kernel settings; iface, TUNs and their addresses
//	pf, wfp      the kill switches of macOS and Windows
//	kept         what it takes to undo all of it, on the disk
//	forwarding   a gateway's part of its machine's network, which has nothing to do with all that
//
// What a program with CAP_NET_RAW writes to an interface by a packet socket passes no firewall and is its own affair; DHCP
// clients live by that.
package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
)

// Mark is, on Linux, the firewall mark of sockets that go out by the physical network: the transports'. It stays clear of the bits
// that Kubernetes (0x4000, 0x8000) and Tailscale (0xff0000) use as flags.
const Mark = 0x2677

// Desired is what the machine's network is to be like. Without a Tun there is no tunnel, yet or any more: captured
// traffic is then blocked, never let out.
type Desired struct {
	// Tun names the TUN, which the caller owns; Set gives it its addresses and MTU, and brings it up. A family without
	// an address is blocked. The networks of Addrs are the TUN's alone, whoever else claims them; name them without a
	// TUN, too, for as long as sockets of the program's own have such addresses.
	Tun   string
	Addrs []netip.Prefix
	MTU   int // 0 leaves it as it is

	// DNS are the resolvers that programs are to ask, inside the TUN. Empty leaves the machine's settings.
	DNS []netip.Addr

	// LAN lets the local network be reached outside of the tunnel: private, link-local and multicast destinations that
	// are on a link of this machine. DNS is not: what asks a resolver there asks it through the tunnel.
	LAN bool

	// Direct go out by the physical network, whatever the rest says. Linux only.
	Direct []netip.Prefix

	// Router carries what the machine forwards for others too, be they on a link of its or containers and virtual machines
	// on it: into the TUN, behind its address, or not at all. Those others reach this machine itself, for DHCP say, only
	// with LAN. Without Router forwarding is left alone, but for what comes out of the TUN, which goes nowhere. Linux only.
	Router bool
}

// ErrDNS is matched when all is set but the DNS settings, as where nobody can write resolv.conf. Nothing leaks: questions are
// captured, whomever they go to.
var ErrDNS = errors.New("DNS settings")

// check finds what no system could do.
func (d Desired) check() error {
	for _, p := range d.Addrs {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("addresses: %q is not an address with a prefix length", p)
		}
	}
	for _, p := range d.Direct {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("direct: %q is not a network", p)
		}
	}
	for _, a := range d.DNS {
		if !a.IsValid() {
			return errors.New("DNS: an address is not valid")
		}
	}
	if d.MTU < 0 {
		return fmt.Errorf("MTU: %d is below 0", d.MTU)
	}
	return nil
}

// HeldError says that another process holds the machine's network.
type HeldError struct {
	PID int // 0 if it has not told yet
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "another process holds this machine's network"
	}
	return fmt.Sprintf("process %d holds this machine's network", e.PID)
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }
func is6(p netip.Prefix) bool { return p.Addr().Is6() }
