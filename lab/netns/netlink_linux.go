package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The little of rtnetlink that is needed here (rtnetlink(7)); one request, one answer.

// nlmsg builds a message: a fixed header, then attributes.
type nlmsg struct{ b []byte }

func newMsg(typ uint16, flags uint16, header []byte) *nlmsg {
	m := &nlmsg{b: make([]byte, unix.NLMSG_HDRLEN, 256)}
	binary.NativeEndian.PutUint16(m.b[4:], typ)
	binary.NativeEndian.PutUint16(m.b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m.b = append(m.b, header...)
	return m
}

func (m *nlmsg) attr(typ uint16, data []byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(data)))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(m.b, data...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *nlmsg) u32(typ uint16, v uint32) { m.attr(typ, binary.NativeEndian.AppendUint32(nil, v)) }
func (m *nlmsg) str(typ uint16, s string) { m.attr(typ, append([]byte(s), 0)) }

// nest puts what f adds into an attribute.
func (m *nlmsg) nest(typ uint16, f func()) {
	at := len(m.b)
	m.attr(typ, nil)
	f()
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// call sends m from the calling thread's namespace and waits for the kernel's verdict.
func (m *nlmsg) call() error {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("netlink socket", err)
	}
	defer unix.Close(s)
	binary.NativeEndian.PutUint32(m.b, uint32(len(m.b)))
	if err := unix.Sendto(s, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(s, buf, 0)
	if err != nil {
		return os.NewSyscallError("netlink receive", err)
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink: unexpected answer")
	}
	if code := int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// struct ifinfomsg: family, pad, type u16, index i32, flags u32, change u32.
func ifinfo(index int, flags, change uint32) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// Connect makes a virtual cable: interface nameA on a, nameB on b, both up.
func Connect(a *Host, nameA string, b *Host, nameB string) error {
	const vethInfoPeer = 1 // VETH_INFO_PEER
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(0, 0, 0))
	m.str(unix.IFLA_IFNAME, nameA)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, "veth")
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.b = append(m.b, ifinfo(0, 0, 0)...)
				m.str(unix.IFLA_IFNAME, nameB)
				m.u32(unix.IFLA_NET_NS_FD, uint32(b.ns.Fd()))
			})
		})
	})
	if err := a.Do(m.call); err != nil {
		return fmt.Errorf("connect %s %s to %s %s: %w", a.Name, nameA, b.Name, nameB, err)
	}
	if err := errors.Join(a.LinkUp(nameA), b.LinkUp(nameB)); err != nil {
		return err
	}
	return errors.Join(a.running(nameA), b.running(nameB))
}

// running waits until the kernel has noticed that the cable's other end is up, which it does a little later: until then
// it gives the interface no link-local address, and asks for no neighbours.
func (h *Host) running(name string) error {
	return h.withLink(name, "wait for carrier", func(i *net.Interface) (err error) {
		for begin := time.Now(); err == nil && i.Flags&net.FlagRunning == 0; i, err = net.InterfaceByIndex(i.Index) {
			if time.Since(begin) > 10*time.Second {
				return errors.New("the cable stays dead")
			}
			time.Sleep(time.Millisecond)
		}
		return err
	})
}

// LinkUp brings an interface up.
func (h *Host) LinkUp(name string) error {
	return h.withLink(name, "up", func(i *net.Interface) error {
		return newMsg(unix.RTM_NEWLINK, 0, ifinfo(i.Index, unix.IFF_UP, unix.IFF_UP)).call()
	})
}

// IsUp reports whether there is such an interface, and it is up.
func (h *Host) IsUp(name string) bool {
	up := false
	err := h.withLink(name, "look", func(i *net.Interface) error {
		up = i.Flags&net.FlagUp != 0
		return nil
	})
	return err == nil && up
}

// withLink runs f on the host's thread with the interface.
func (h *Host) withLink(name, what string, f func(*net.Interface) error) error {
	err := h.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		return f(i)
	})
	if err != nil {
		return fmt.Errorf("host %s: interface %s: %s: %w", h.Name, name, what, err)
	}
	return nil
}

// HardwareAddr reads an interface's Ethernet address.
func (h *Host) HardwareAddr(name string) (mac net.HardwareAddr, err error) {
	err = h.withLink(name, "address", func(i *net.Interface) error {
		mac = i.HardwareAddr
		return nil
	})
	return mac, err
}

// AddAddr gives an interface an address, and with it the route to its network; cc is as in Route.
func (h *Host) AddAddr(name string, p netip.Prefix, cc string) error {
	err := h.withLink(name, "add "+p.String(), func(i *net.Interface) error {
		// struct ifaddrmsg: family, prefixlen, flags, scope u8; index u32.
		hdr := []byte{family(p.Addr()), byte(p.Bits()), 0, 0, 0, 0, 0, 0}
		binary.NativeEndian.PutUint32(hdr[4:], uint32(i.Index))
		m := newMsg(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, hdr)
		m.attr(unix.IFA_LOCAL, p.Addr().AsSlice())
		m.attr(unix.IFA_ADDRESS, p.Addr().AsSlice())
		// The route is made below, so that it can carry cc. Nobody else has the address, so it can be used at once.
		m.u32(unix.IFA_FLAGS, unix.IFA_F_NOPREFIXROUTE|unix.IFA_F_NODAD)
		return m.call()
	})
	if err != nil {
		return err
	}
	return h.AddRoute(Route{To: p.Masked(), Dev: name, Source: p.Addr(), CC: cc})
}

// RemoveAddr takes an address away from an interface, and with it the routes that start from there.
func (h *Host) RemoveAddr(name string, p netip.Prefix) error {
	return h.withLink(name, "remove "+p.String(), func(i *net.Interface) error {
		hdr := []byte{family(p.Addr()), byte(p.Bits()), 0, 0, 0, 0, 0, 0}
		binary.NativeEndian.PutUint32(hdr[4:], uint32(i.Index))
		m := newMsg(unix.RTM_DELADDR, 0, hdr)
		m.attr(unix.IFA_LOCAL, p.Addr().AsSlice())
		return m.call()
	})
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Route is an IPv4 or IPv6 route.
type Route struct {
	To  netip.Prefix
	Dev string
	// Via is the next hop; not valid means the network is on the interface itself.
	Via netip.Addr
	// Source is the address that connections start from; not valid leaves it to the kernel.
	Source netip.Addr
	// CC, if not empty, is the congestion control of TCP connections that use the route.
	CC string
	// Local says that To are the host's own addresses (table local).
	Local bool
}

// AddRoute adds or replaces a route.
func (h *Host) AddRoute(r Route) error {
	return h.withLink(r.Dev, "route to "+r.To.String(), func(i *net.Interface) error {
		// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type u8; flags u32.
		hdr := make([]byte, 12)
		hdr[0], hdr[1] = family(r.To.Addr()), byte(r.To.Bits())
		hdr[4], hdr[5], hdr[6], hdr[7] = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
		if !r.Via.IsValid() {
			hdr[6] = unix.RT_SCOPE_LINK
		}
		if r.Local {
			hdr[4], hdr[5], hdr[6], hdr[7] = unix.RT_TABLE_LOCAL, unix.RTPROT_KERNEL, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
		}
		m := newMsg(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, hdr)
		m.attr(unix.RTA_DST, r.To.Addr().AsSlice())
		m.u32(unix.RTA_OIF, uint32(i.Index))
		if r.Via.IsValid() {
			m.attr(unix.RTA_GATEWAY, r.Via.AsSlice())
		}
		if r.Source.IsValid() {
			m.attr(unix.RTA_PREFSRC, r.Source.AsSlice())
		}
		if r.CC != "" {
			const rtaxCCAlgo = 16 // RTAX_CC_ALGO
			m.nest(unix.RTA_METRICS, func() { m.str(rtaxCCAlgo, r.CC) })
		}
		return m.call()
	})
}

// AddDefaultRoute sends all of via's family that no other route takes to via.
func (h *Host) AddDefaultRoute(dev string, via netip.Addr) error {
	to, err := via.Prefix(0)
	if err != nil {
		return fmt.Errorf("host %s: default route: %w", h.Name, err)
	}
	return h.AddRoute(Route{To: to, Dev: dev, Via: via})
}

// AddNeighbour fixes the Ethernet address behind an IP address.
func (h *Host) AddNeighbour(dev string, ip netip.Addr, mac net.HardwareAddr) error {
	return h.withLink(dev, "neighbour "+ip.String(), func(i *net.Interface) error {
		// struct ndmsg: family u8, pad 3; ifindex i32; state u16; flags, type u8.
		hdr := make([]byte, 12)
		hdr[0] = family(ip)
		binary.NativeEndian.PutUint32(hdr[4:], uint32(i.Index))
		binary.NativeEndian.PutUint16(hdr[8:], unix.NUD_PERMANENT)
		m := newMsg(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, hdr)
		m.attr(unix.NDA_DST, ip.AsSlice())
		m.attr(unix.NDA_LLADDR, mac)
		return m.call()
	})
}
