package egress

import (
	"net"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// routes is what the routing tables said at one time.
type routes struct {
	at       time.Time
	families flow.Families
	exit     [2]netip.Addr // IPv4's, IPv6's
}

// Where a route is looked up to: far away, and never sent anything. A root server's addresses are not likely to get
// a route of their own on any gateway.
var farAway = [2]netip.AddrPort{
	netip.MustParseAddrPort("198.41.0.4:53"),
	netip.MustParseAddrPort("[2001:503:ba3e::2:30]:53"),
}

// Families says which IP versions have a way out: a route to the public internet, from an address that can be used
// there; and those that Allow opens a part of, be it only the gateway's own network. It looks at most once a minute.
// Behind an upstream it is IPv4, unless the config says otherwise.
func (s *Sockets) Families() flow.Families {
	switch {
	case s.cfg.Families != 0:
		return s.cfg.Families
	case s.upstream != nil:
		return flow.IPv4
	}
	families := s.currentRoutes().families
	for _, p := range s.cfg.Allow {
		if p.Addr().Unmap().Is4() {
			families |= flow.IPv4
		} else {
			families |= flow.IPv6
		}
	}
	return families
}

// ExitAddrs are the local addresses that connections to the public internet leave from; the zero value where there is
// none, and behind an upstream, whose addresses are not known here.
func (s *Sockets) ExitAddrs() (v4, v6 netip.Addr) {
	if s.upstream != nil {
		return v4, v6
	}
	r := s.currentRoutes()
	return r.exit[0], r.exit[1]
}

// UDP reports whether packets can leave at all.
func (s *Sockets) UDP() bool { return s.upstream == nil }

func (s *Sockets) currentRoutes() *routes {
	r := s.routes.Load()
	if r != nil && time.Since(r.at) < routesAge {
		return r
	}
	if r == nil {
		s.routesMu.Lock()
	} else if !s.routesMu.TryLock() {
		return r // someone is looking
	}
	defer s.routesMu.Unlock()
	old := s.routes.Load()
	if old != nil && time.Since(old.at) < routesAge {
		return old
	}
	r = &routes{at: time.Now()}
	for i, source := range []netip.Addr{s.cfg.Source4, s.cfg.Source6} {
		if a, ok := exitAddr(i, source); ok && (source.IsValid() || leads(a)) {
			r.exit[i] = a
			r.families |= []flow.Families{flow.IPv4, flow.IPv6}[i]
		}
	}
	s.routes.Store(r)
	if old == nil || old.families != r.families {
		s.log.Info("ways out", "ipv4", r.families.Has(flow.IPv4), "ipv6", r.families.Has(flow.IPv6))
	}
	return r
}

// exitAddr asks the kernel for a route by connecting a UDP socket, which sends nothing.
func exitAddr(i int, source netip.Addr) (netip.Addr, bool) {
	var local *net.UDPAddr
	if source.IsValid() {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	c, err := net.DialUDP([]string{"udp4", "udp6"}[i], local, net.UDPAddrFromAddrPort(farAway[i]))
	if err != nil {
		return netip.Addr{}, false
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), true
}

// leads reports whether the public internet can answer a: IPv4 of any kind is translated on the way, but an IPv6
// address of local scope (where an interface has nothing else) hardly ever is. Source6 says that it is.
func leads(a netip.Addr) bool {
	if a.Is4() {
		return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified()
	}
	return global6.Contains(a)
}
