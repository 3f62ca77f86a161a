// Package lan says what of the local network a machine may reach beside the tunnel, on every system alike: the ranges that may be a
// local network's, those of everybody on it, and the ports that are none of its affairs.
package lan

import (
	"net"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// Private are the networks that may be local. The ranges are those that no one can own on the Internet, so that a hostile
// network that calls itself by somebody's public addresses gains nothing (TunnelCrack's LocalNet).
var Private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
}

// Everybody are the multicast and broadcast addresses of a link and a site.
var Everybody = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/24"),
	netip.MustParsePrefix("239.0.0.0/8"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff01::/16"),
	netip.MustParsePrefix("ff02::/16"),
	netip.MustParsePrefix("ff03::/16"),
	netip.MustParsePrefix("ff04::/16"),
	netip.MustParsePrefix("ff05::/16"),
}

// NamePorts are those by which names are asked for: DNS, DNS over TLS or QUIC, LLMNR. They are not the local network's affair.
var NamePorts = []uint16{53, 853, 5355}

// Link is a network that an interface is on.
type Link struct {
	Interface string
	Net       netip.Prefix
}

// Links are the local networks that this machine's interfaces are on, without the TUN.
func Links(tun string) (links []Link, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.Name == tun || i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			own, _ := netipx.FromStdIPNet(n)
			if p, ok := On(own); ok && !slices.Contains(links, Link{i.Name, p}) {
				links = append(links, Link{i.Name, p})
			}
		}
	}
	return links, nil
}

// On is what of an interface's network is local; none if that is somebody's public addresses, or calls more its own
// than there is of a local range.
func On(p netip.Prefix) (netip.Prefix, bool) {
	p = p.Masked()
	for _, l := range Private {
		switch {
		case l.Bits() > p.Bits() || !l.Overlaps(p):
		case l.Addr().IsLinkLocalUnicast():
			return l, true // the kernel has the interface's number in the middle of such addresses of IPv6
		default:
			return p, true
		}
	}
	return netip.Prefix{}, false
}
