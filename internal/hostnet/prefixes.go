package hostnet

import (
	"net/netip"
	"slices"
)

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
