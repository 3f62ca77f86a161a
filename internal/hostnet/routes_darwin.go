package hostnet

import (
	"net"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// kernelRoutes lists the networks that the kernel has routes to.
func kernelRoutes() (list []kernelRoute, err error) {
	rib, err := route.FetchRIB(unix.AF_UNSPEC, route.RIBTypeRoute, 0)
	if err != nil {
		return nil, err
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, rib)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		r, ok := m.(*route.RouteMessage)
		if !ok || r.Flags&unix.RTF_UP == 0 || r.Flags&(unix.RTF_HOST|unix.RTF_REJECT|unix.RTF_BLACKHOLE) != 0 {
			continue
		}
		if p, ok := networkOf(r.Addrs); ok {
			list = append(list, kernelRoute{to: p, index: r.Index, scoped: r.Flags&unix.RTF_IFSCOPE != 0})
		}
	}
	return list, nil
}

// networkOf is a route's destination. One to everywhere may come without a mask.
func networkOf(addrs []route.Addr) (netip.Prefix, bool) {
	at := func(i int) (b []byte) {
		if i < len(addrs) {
			switch a := addrs[i].(type) {
			case *route.Inet4Addr:
				b = a.IP[:]
			case *route.Inet6Addr:
				b = a.IP[:]
			}
		}
		return b
	}
	to, ok := netip.AddrFromSlice(at(unix.RTAX_DST))
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := net.IPMask(at(unix.RTAX_NETMASK)).Size()
	p := netip.PrefixFrom(to, bits)
	return p, p.IsValid() && p == p.Masked()
}
