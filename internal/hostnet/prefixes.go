package hostnet

import (
	"net"
	"net/netip"
	"slices"
)

// local are the networks that LAN lets out. The ranges are those that no one can own on the Internet, so that a hostile
// network that calls itself by somebody's public addresses gains nothing (TunnelCrack's LocalNet).
var local = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
}

// everybody are the multicast and broadcast addresses of a link and a site.
var everybody = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/24"),
	netip.MustParsePrefix("239.0.0.0/8"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff01::/16"),
	netip.MustParsePrefix("ff02::/16"),
	netip.MustParsePrefix("ff03::/16"),
	netip.MustParsePrefix("ff04::/16"),
	netip.MustParsePrefix("ff05::/16"),
}

// Ports by which names are asked for: DNS, DNS over TLS or QUIC, LLMNR. They are not the local network's affair.
var namePorts = []uint16{53, 853, 5355}

// interval is the addresses from first to last.
type interval struct{ first, last netip.Addr }

// intervals is what prefixes cover, in order, without overlaps.
func intervals(prefixes []netip.Prefix) (out []interval) {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	for _, p := range sorted {
		p = p.Masked()
		next := interval{p.Addr(), lastOf(p)}
		if n := len(out); n > 0 && out[n-1].first.BitLen() == next.first.BitLen() {
			if end := &out[n-1].last; !end.Next().IsValid() || next.first.Compare(end.Next()) <= 0 {
				if end.Less(next.last) {
					*end = next.last
				}
				continue
			}
		}
		out = append(out, next)
	}
	return out
}

// lastOf is a network's last address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }
func is6(p netip.Prefix) bool { return p.Addr().Is6() }

// prefixOf is a network as the net package has it; the kernel's answers are always valid.
func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if size == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits)
}
