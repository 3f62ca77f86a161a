package egress

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// policy decides which destinations may be reached. It looks at addresses only, and is asked about the very address a
// packet or a connection is about to go to, after every lookup: names can lie, and can change between two lookups.
//
// In this order:
//
//	never     what is not one host: unspecified, multicast, broadcast; closed ports; the gateway's own listeners
//	embedded  an address that carries an IPv4 address is refused if that one is
//	metadata  a cloud's metadata service, unless Allow names just that address
//	allow     whatever Allow contains is open
//	special   everything that is not the public internet, and the gateway's own addresses, are refused
//	          all else is open
type policy struct {
	allow     []netip.Prefix
	nat64     []netip.Prefix
	closed    map[uint16]bool
	own       map[netip.AddrPort]bool
	ownAddrs  map[netip.Addr]bool // own, at every port
	ownPorts  map[uint16]bool     // own, at every local address
	local     atomic.Pointer[localAddrs]
	localMu   sync.Mutex
	listLocal func() ([]net.Addr, error)
	now       func() time.Time
}

// localAddrs are this machine's addresses, as of at.
type localAddrs struct {
	at         time.Time
	addrs      map[netip.Addr]bool
	broadcasts map[netip.Addr]bool
}

// localAge is how long a list of local addresses is good for. A new address is reachable through the gateway for as
// long, if it is a public one.
const localAge = 5 * time.Second

// reason says why a destination is refused; empty if it is not.
type reason string

const (
	badAddress reason = "not an address that can be connected to"
	closedPort reason = "the port is closed by policy"
	manyHosts  reason = "a multicast, broadcast or unspecified address"
	ownAddress reason = "an address of the gateway itself"
	metadata   reason = "a cloud's metadata service"
	loopback   reason = "a loopback address"
	linkLocal  reason = "a link-local address"
	private    reason = "a private address"
	notPublic  reason = "an address that is reserved for special use"
	transition reason = "an address of an abandoned IPv6 transition technique"
)

type special struct {
	prefix netip.Prefix
	why    reason
}

func specials(why reason, prefixes ...string) []special {
	var out []special
	for _, p := range prefixes {
		out = append(out, special{netip.MustParsePrefix(p), why})
	}
	return out
}

func join(lists ...[]special) (out []special) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// From IANA's registries of special-purpose addresses. All of these are read only.
var (
	special4 = join(
		specials(loopback, "127.0.0.0/8"),
		specials(linkLocal, "169.254.0.0/16"),
		specials(private, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
		specials(notPublic, "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
			"203.0.113.0/24", "240.0.0.0/4"),
		specials(transition, "192.88.99.0/24"),
	)
	special6 = join(
		specials(notPublic, "2001::/23", "2001:db8::/32", "3fff::/20"),
		specials(transition, "2002::/16", "3ffe::/16"),
	)
	// Outside 2000::/3 nothing is public; these are named for the error's sake.
	outside6 = join(
		specials(loopback, "::1/128"),
		specials(linkLocal, "fe80::/10"),
		specials(private, "fc00::/7", "fec0::/10"),
	)
	global6 = netip.MustParsePrefix("2000::/3")
	// Some of these lie inside prefixes an operator may well allow; 168.63.129.16, Azure's, even looks public.
	metadataAddrs = map[netip.Addr]bool{
		netip.MustParseAddr("169.254.169.254"): true,
		netip.MustParseAddr("169.254.170.2"):   true,
		netip.MustParseAddr("169.254.170.23"):  true,
		netip.MustParseAddr("168.63.129.16"):   true,
		netip.MustParseAddr("100.100.100.200"): true,
		netip.MustParseAddr("192.0.0.192"):     true,
		netip.MustParseAddr("fd00:ec2::254"):   true,
		netip.MustParseAddr("fd00:ec2::23"):    true,
		netip.MustParseAddr("fd20:ce::254"):    true,
	}
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

	compatible = netip.MustParsePrefix("::/96")           // IPv4-compatible, RFC 4291 §2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // IPv4-translated, RFC 2765
	wellKnown  = netip.MustParsePrefix("64:ff9b::/96")    // NAT64, RFC 6052
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
)

func newPolicy(c *Config) (*policy, error) {
	p := &policy{
		closed:    make(map[uint16]bool),
		own:       make(map[netip.AddrPort]bool),
		ownAddrs:  make(map[netip.Addr]bool),
		ownPorts:  make(map[uint16]bool),
		listLocal: net.InterfaceAddrs,
		now:       time.Now,
	}
	for _, a := range c.Allow {
		if !a.IsValid() {
			return nil, fmt.Errorf("egress: config: allow: prefix %q is not valid", a)
		}
		if a.Addr().Is4In6() && a.Bits() >= 96 {
			a = netip.PrefixFrom(a.Addr().Unmap(), a.Bits()-96)
		}
		p.allow = append(p.allow, a.Masked())
	}
	p.nat64 = []netip.Prefix{wellKnown}
	for _, n := range c.NAT64 {
		switch {
		case !n.IsValid() || !n.Addr().Is6() || n.Addr().Is4In6():
			return nil, fmt.Errorf("egress: config: nat64: prefix %q is not an IPv6 prefix", n)
		case n.Bits() != 96 && (n.Bits() > 64 || n.Bits() < 32 || n.Bits()%8 != 0):
			return nil, fmt.Errorf("egress: config: nat64: prefix %q has none of RFC 6052's lengths: 32, 40, 48, 56, 64, 96", n)
		}
		p.nat64 = append(p.nat64, n.Masked())
	}
	ports := c.ClosedPorts
	if ports == nil {
		ports = []uint16{25}
	}
	for _, port := range ports {
		p.closed[port] = true
	}
	for _, o := range c.Own {
		switch a := o.Addr().Unmap(); {
		case !a.IsValid() || a.IsUnspecified() && o.Port() == 0:
			return nil, fmt.Errorf("egress: config: own: %q is neither an address nor a port", o)
		case a.IsUnspecified():
			p.ownPorts[o.Port()] = true
		case o.Port() == 0:
			p.ownAddrs[a.WithZone("")] = true
		default:
			p.own[netip.AddrPortFrom(a.WithZone(""), o.Port())] = true
		}
	}
	return p, nil
}

// refuse says why packets may not go to ap. allowed is set where Allow opened it.
func (p *policy) refuse(ap netip.AddrPort) (why reason, allowed bool) {
	a := ap.Addr().Unmap()
	switch {
	case ap.Port() == 0:
		return badAddress, false
	case p.closed[ap.Port()]:
		return closedPort, false
	case p.isOwn(a, ap.Port()):
		return ownAddress, false
	}
	if v4, ok := p.embedded(a); ok && p.isOwn(v4, ap.Port()) {
		return ownAddress, false
	}
	return p.refuseAddr(a)
}

// isOwn reports whether one of the gateway's listeners is there.
func (p *policy) isOwn(a netip.Addr, port uint16) bool {
	return p.own[netip.AddrPortFrom(a, port)] || p.ownPorts[port] && p.isLocal(a)
}

// refuseAddr is refuse for every port but closed and own ones.
func (p *policy) refuseAddr(a netip.Addr) (why reason, allowed bool) {
	if !a.IsValid() || a.Zone() != "" {
		return badAddress, false
	}
	a = a.Unmap()
	local := p.localNow()
	if a.IsUnspecified() || a.IsMulticast() || a == broadcast4 || local.broadcasts[a] {
		return manyHosts, false
	}
	if p.ownAddrs[a] {
		return ownAddress, false
	}
	if v4, ok := p.embedded(a); ok {
		if why, allowed := p.refuseAddr(v4); why != "" || p.translates(a) {
			return why, allowed
		}
	}
	inAllow, exactly := false, false
	for _, prefix := range p.allow {
		if prefix.Contains(a) {
			inAllow, exactly = true, exactly || prefix.IsSingleIP()
		}
	}
	if metadataAddrs[a] && !exactly {
		return metadata, false
	}
	if inAllow {
		return "", true
	}
	if local.addrs[a] {
		return ownAddress, false
	}
	table := special4
	if a.Is6() {
		table = special6
		if !global6.Contains(a) {
			for _, s := range outside6 {
				if s.prefix.Contains(a) {
					return s.why, false
				}
			}
			return notPublic, false
		}
	}
	for _, s := range table {
		if s.prefix.Contains(a) {
			return s.why, false
		}
	}
	return "", false
}

// translates reports whether a is what a NAT64 makes an IPv4 address into: then it is judged by that alone.
func (p *policy) translates(a netip.Addr) bool {
	for _, n := range p.nat64 {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// embedded is the IPv4 address that a carries, if it is of a kind that does.
func (p *policy) embedded(a netip.Addr) (netip.Addr, bool) {
	if a.Is4() {
		return a, false
	}
	b := a.As16()
	for _, n := range p.nat64 {
		if n.Contains(a) {
			return fromNAT64(b, n.Bits()), true
		}
	}
	switch {
	case compatible.Contains(a) && binary.BigEndian.Uint32(b[12:]) > 1, translated.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:])), true
	case teredo.Contains(a): // the client's address, with every bit inverted
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	}
	return a, false
}

// fromNAT64 takes the IPv4 address out of b behind a prefix of bits; byte 8 is skipped (RFC 6052 §2.2).
func fromNAT64(b [16]byte, bits int) netip.Addr {
	var v4 [4]byte
	i := bits / 8
	for j := range v4 {
		if i == 8 {
			i++
		}
		v4[j] = b[i]
		i++
	}
	return netip.AddrFrom4(v4)
}

func (p *policy) isLocal(a netip.Addr) bool {
	return a.IsLoopback() || p.localNow().addrs[a]
}

// localNow is this machine's addresses, at most localAge old or being listed anew by someone else right now.
func (p *policy) localNow() *localAddrs {
	l := p.local.Load()
	if l != nil && p.now().Sub(l.at) < localAge {
		return l
	}
	if l == nil {
		p.localMu.Lock()
	} else if !p.localMu.TryLock() {
		return l
	}
	defer p.localMu.Unlock()
	if l = p.local.Load(); l != nil && p.now().Sub(l.at) < localAge {
		return l
	}
	fresh := &localAddrs{at: p.now(), addrs: make(map[netip.Addr]bool), broadcasts: make(map[netip.Addr]bool)}
	list, err := p.listLocal()
	if err != nil && l != nil {
		fresh.addrs, fresh.broadcasts = l.addrs, l.broadcasts // better old than none
	}
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		fresh.addrs[ip] = true
		if ones, size := n.Mask.Size(); ip.Is4() && size > 0 {
			if host := size - ones; host >= 2 && host < 32 {
				b := ip.As4()
				v := binary.BigEndian.Uint32(b[:]) | (1<<host - 1)
				binary.BigEndian.PutUint32(b[:], v)
				fresh.broadcasts[netip.AddrFrom4(b)] = true
			}
		}
	}
	p.local.Store(fresh)
	return fresh
}
