package topology

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// ErrNoCC is in the error of New when the wanted congestion control cannot be had in a namespace.
var ErrNoCC = errors.New("congestion control not available")

// setCC makes every TCP connection of every host use cfg.CC. The obvious way is the sysctl, which the kernel refuses
// inside a namespace unless the host's net.ipv4.tcp_allowed_congestion_control lists the name. The other way is the
// congctl attribute of routes, which is the namespace's own business. CheckCC then looks at real connections.
func (n *Net) setCC() error {
	if n.cfg.CC == "" {
		return nil
	}
	have, err := n.Client.ReadSysctl("net.ipv4.tcp_available_congestion_control")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(have), n.cfg.CC) {
		return fmt.Errorf("%q: %w: this kernel has %s (root may load module tcp_%s)", n.cfg.CC, ErrNoCC, have, n.cfg.CC)
	}
	n.CCBy = "sysctl"
	for _, h := range n.Hosts() {
		err := h.Sysctl("net.ipv4.tcp_congestion_control", n.cfg.CC)
		if errors.Is(err, os.ErrPermission) {
			n.CCBy, n.routeCC = "route", n.cfg.CC
			break
		}
		if err != nil {
			return fmt.Errorf("%q: %w: %w", n.cfg.CC, ErrNoCC, err)
		}
	}
	if n.routeCC == "" {
		return nil
	}
	for _, h := range n.Hosts() {
		for _, own := range []string{"127.0.0.0/8", "127.0.0.1/32"} {
			r := netns.Route{To: netip.MustParsePrefix(own), Dev: "lo", Source: netip.MustParseAddr("127.0.0.1"), Local: true}
			if err := n.AddRoute(h, r); err != nil {
				return fmt.Errorf("%q: %w: %w", n.cfg.CC, ErrNoCC, err)
			}
		}
	}
	return nil
}

// CheckCC opens connections between the hosts and reads back the congestion control at both ends. It fails if one is
// not what was asked for. A Linked Net must be carrying frames.
func (n *Net) CheckCC() (map[string]string, error) {
	loopback := netip.MustParseAddr("127.0.0.1")
	found := make(map[string]string)
	for _, p := range []struct {
		from, to *netns.Host
		addr     netip.Addr
	}{
		{n.Client, n.Gateway, GatewayAddr},
		{n.Gateway, n.Target, TargetAddr},
		{n.Client, n.Client, loopback},
		{n.Gateway, n.Gateway, loopback},
	} {
		dialled, accepted, err := probeCC(p.from, p.to, p.addr)
		if err != nil {
			return nil, fmt.Errorf("congestion control of %s to %s: %w", p.from.Name, p.to.Name, err)
		}
		name := p.from.Name + "-" + p.to.Name
		found[name] = dialled
		if p.from != p.to {
			found[p.to.Name+"-"+p.from.Name] = accepted
		}
		if n.cfg.CC != "" && (dialled != n.cfg.CC || accepted != n.cfg.CC) {
			return nil, fmt.Errorf("%s: asked for %q, got %q and %q: %w", name, n.cfg.CC, dialled, accepted, ErrNoCC)
		}
	}
	return found, nil
}

func probeCC(from, to *netns.Host, addr netip.Addr) (dialled, accepted string, err error) {
	l, err := to.Listen(netip.AddrPortFrom(addr, 0))
	if err != nil {
		return "", "", err
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(10 * time.Second))
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	c, err := from.Dial(netip.AddrPortFrom(addr, port), 10*time.Second)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	s, err := l.AcceptTCP()
	if err != nil {
		return "", "", err
	}
	defer s.Close()
	dialled, err1 := socketCC(c)
	accepted, err2 := socketCC(s)
	return dialled, accepted, errors.Join(err1, err2)
}

func socketCC(c *net.TCPConn) (name string, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	return strings.TrimRight(name, "\x00"), errors.Join(err, ctlErr)
}

// SocketCCs counts the congestion controls of a host's established TCP connections, whoever owns them: what a peer
// really used, whatever the host was set to.
func SocketCCs(h *netns.Host) (map[string]int, error) {
	found := make(map[string]int)
	err := h.Do(func() error {
		s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
		if err != nil {
			return os.NewSyscallError("netlink socket", err)
		}
		defer unix.Close(s)
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} { // a dual-stack listener's connections are INET6
			if err := dumpCC(s, family, found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("host %s: list sockets: %w", h.Name, err)
	}
	return found, nil
}

// dumpCC asks for all established sockets of a family with sock_diag(7).
func dumpCC(s int, family byte, found map[string]int) error {
	const (
		sockDiagByFamily = 20
		inetDiagCong     = 4
		established      = 1
		reqLen           = 56 // struct inet_diag_req_v2
		msgLen           = 72 // struct inet_diag_msg
	)
	b := make([]byte, unix.NLMSG_HDRLEN+reqLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req := b[unix.NLMSG_HDRLEN:]
	req[0], req[1], req[2] = family, unix.IPPROTO_TCP, 1<<(inetDiagCong-1)
	binary.NativeEndian.PutUint32(req[4:], 1<<established)
	if err := unix.Sendto(s, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(s, buf, 0)
		if err != nil {
			return err
		}
		for rest := buf[:n]; len(rest) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				return errors.New("bad netlink message")
			}
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return errors.New("refused")
			}
			attrs := rest[min(unix.NLMSG_HDRLEN+msgLen, size):size]
			for len(attrs) >= 4 {
				l := int(binary.NativeEndian.Uint16(attrs))
				if l < 4 || l > len(attrs) {
					break
				}
				if binary.NativeEndian.Uint16(attrs[2:]) == inetDiagCong {
					found[strings.TrimRight(string(attrs[4:l]), "\x00")]++
				}
				attrs = attrs[min((l+3)&^3, len(attrs)):]
			}
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
}
