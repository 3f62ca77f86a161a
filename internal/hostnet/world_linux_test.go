package hostnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// world is a machine at home, and its way to the Internet, where everything that leaves it is seen:
//
//	client 192.168.7.2/24, 2001:db8:7::2/64, fe80:: ── eth0 ── router 192.168.7.1, 2001:db8:7::1, and all the Internet:
//	                                                           gateway, site
type world struct {
	client, router *netns.Host
	state, etc     string
	seen           *capture.Capture
	home           *capture.Capture // what a guest sends
	mac            net.HardwareAddr // the client's

	mu    sync.Mutex
	heard map[string]bool // what the gateway was sent
}

var (
	client4, client6   = netip.MustParsePrefix("192.168.7.2/24"), netip.MustParsePrefix("2001:db8:7::2/64")
	router4, router6   = netip.MustParsePrefix("192.168.7.1/24"), netip.MustParsePrefix("2001:db8:7::1/64")
	gateway4, gateway6 = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("3fff::1")
	site4, site6       = netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("3fff:5::5")
	private4, private6 = netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00:1::3") // behind the router, if it says so
	tun4, tun6         = netip.MustParsePrefix("100.64.9.2/32"), netip.MustParsePrefix("fd77::2/128")
)

const (
	tunnelPort = 4433 // where the gateway listens: marked sockets only
	strayPort  = 4434
)

func newWorld(t *testing.T) *world {
	t.Helper()
	netnstest.Need(t)
	netnstest.NeedTUN(t)
	w := &world{state: filepath.Join(t.TempDir(), "hostnet"), etc: t.TempDir(), heard: map[string]bool{}}
	host := func(name string) *netns.Host {
		h, err := netns.NewHost(name)
		must(t, err)
		t.Cleanup(func() { h.Close() })
		must(t, h.EnableIPv6())
		return h
	}
	w.client, w.router = host("client"), host("router")
	must(t, os.WriteFile(filepath.Join(w.etc, "resolv.conf"), []byte("nameserver 192.168.7.1\nsearch home\n"), 0o640))
	// The strictest filter there is: an answer that the routes do not expect is dropped.
	for _, c := range []string{"all", "default"} {
		must(t, w.client.Sysctl("net.ipv4.conf."+c+".rp_filter", "1"))
	}
	must(t, netns.Connect(w.client, "eth0", w.router, "eth0"))
	for _, h := range []*netns.Host{w.client, w.router} {
		for _, family := range []string{"ipv4", "ipv6"} {
			must(t, h.Sysctl("net."+family+".neigh.eth0.retrans_time_ms", "20")) // a question that was lost is soon asked again
		}
	}
	must(t, w.client.AddAddr("eth0", client4, ""), w.client.AddAddr("eth0", client6, ""))
	must(t, w.router.AddAddr("eth0", router4, ""), w.router.AddAddr("eth0", router6, ""))
	must(t, w.client.AddDefaultRoute("eth0", router4.Addr()), w.client.AddDefaultRoute("eth0", router6.Addr()))
	for _, a := range []netip.Addr{gateway4, gateway6, site4, site6, private4, private6} {
		must(t, w.router.AddAddr("lo", netip.PrefixFrom(a, a.BitLen()), ""))
	}
	var err error
	w.mac, err = w.client.HardwareAddr("eth0")
	must(t, err)
	for _, a := range []netip.Addr{gateway4, gateway6} {
		c, err := w.router.ListenUDP(netip.AddrPortFrom(a, tunnelPort))
		must(t, err)
		go w.echo(c)
		t.Cleanup(func() { c.Close() })
	}
	w.seen, err = capture.Start(w.router, "eth0", 0)
	must(t, err)
	t.Cleanup(func() { w.seen.Stop() })
	w.marked(t) // what is sent in a cable's first moments is lost
	return w
}

func (w *world) echo(c *net.UDPConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.heard[string(b[:n])] = true
		w.mu.Unlock()
		c.WriteToUDPAddrPort(b[:n], from)
	}
}

func (w *world) open(t *testing.T) *Host {
	t.Helper()
	var h *Host
	must(t, w.client.Do(func() (err error) {
		h, err = open(w.state, w.etc)
		return err
	}))
	return h
}

func (w *world) set(t *testing.T, h *Host, d Desired) {
	t.Helper()
	must(t, w.client.Do(func() error { return h.Set(d) }))
}

// marked sends something to the gateway from a protected socket, waits for the answer, in both families, and until the
// capture, too, has come so far.
func (w *world) marked(t *testing.T) {
	t.Helper()
	for _, a := range []netip.Addr{gateway4, gateway6} {
		var c net.Conn
		must(t, w.client.Do(func() (err error) {
			d := net.Dialer{Control: Protect}
			c, err = d.Dial("udp", netip.AddrPortFrom(a, tunnelPort).String())
			return err
		}))
		defer c.Close()
		text := fmt.Sprint("marked ", time.Now().UnixNano())
		got := make([]byte, 100)
		var n int
		for try := 0; ; try++ { // the first one may be lost while a neighbour is looked for
			_, err := c.Write([]byte(text))
			if err == nil {
				c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				if n, err = c.Read(got); err == nil {
					break
				}
			}
			if try == 50 {
				t.Fatalf("a marked socket's packet to %v: %v", a, err)
			}
		}
		if string(got[:n]) != text {
			t.Fatalf("answer %q, want %q", got[:n], text)
		}
		await(t, w.seen, text)
	}
}

// await waits until a capture has noted a frame with a text.
func await(t *testing.T, c *capture.Capture, text string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		if slices.ContainsFunc(c.Frames(), func(f capture.Frame) bool { return bytes.Contains(f.Data, []byte(text)) }) {
			return
		}
	}
	t.Fatalf("the capture did not see %q", text)
}

// attempt is what a program tries to send, and what it looks like outside.
type attempt struct {
	name string
	do   func() error
	seen string // in the description of a frame
}

// udp sends a datagram; options are set before.
func udp(to netip.AddrPort, from netip.Addr, options ...func(fd int) error) func() error {
	return func() error {
		fd, err := unix.Socket(domain(to.Addr()), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, o := range options {
			if err := o(fd); err != nil {
				return err
			}
		}
		if from.IsValid() {
			if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
				return err
			}
		}
		return unix.Sendto(fd, []byte("stray"), 0, sockaddr(to))
	}
}

func bindTo(dev string) func(int) error {
	return func(fd int) error { return unix.BindToDevice(fd, dev) }
}

func tcp(to netip.AddrPort) func() error {
	return func() error {
		fd, err := unix.Socket(domain(to.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, sockaddr(to)); err != unix.EINPROGRESS {
			return err
		}
		return nil
	}
}

func ping(to netip.Addr) func() error {
	return func() error {
		proto, echo := unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
		if to.Is6() {
			proto, echo = unix.IPPROTO_ICMPV6, []byte{128, 0, 0, 0, 0, 0, 0, 0}
		}
		fd, err := unix.Socket(domain(to), unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, echo, 0, sockaddr(netip.AddrPortFrom(to, 0)))
	}
}

func multicast4(dev string, to netip.AddrPort) func() error {
	return udp(to, netip.Addr{}, func(fd int) error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(i.Index)})
	})
}

func multicast6(dev string, to netip.AddrPort) func() error {
	return udp(to, netip.Addr{}, func(fd int) error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, i.Index)
	})
}

func broadcast(to netip.AddrPort) func() error {
	return udp(to, netip.Addr{}, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1) })
}

func port53(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 53) }

// attempts are what programs try on a machine whose physical interface is dev.
func attempts(dev string) []attempt {
	at := netip.AddrPortFrom
	return []attempt{
		{"DNS", udp(port53(site4), netip.Addr{}), "UDP 203.0.113.5:53"},
		{"DNS, IPv6", udp(port53(site6), netip.Addr{}), "UDP [3fff:5::5]:53"},
		{"DNS at home", udp(port53(router4.Addr()), netip.Addr{}), "UDP 192.168.7.1:53"},
		{"DNS at home, IPv6", udp(port53(router6.Addr()), netip.Addr{}), "UDP [2001:db8:7::1]:53"},
		{"TCP", tcp(at(site4, 80)), "TCP 203.0.113.5:80"},
		{"TCP, IPv6", tcp(at(site6, 80)), "TCP [3fff:5::5]:80"},
		{"ping", ping(site4), "ICMP 203.0.113.5"},
		{"ping, IPv6", ping(site6), "ICMP 3fff:5::5"},
		{"the gateway, unmarked", udp(at(gateway4, strayPort), netip.Addr{}), "UDP 198.51.100.1:4434"},
		{"the gateway, unmarked, IPv6", udp(at(gateway6, strayPort), netip.Addr{}), "UDP [3fff::1]:4434"},
		{"bound to the interface", udp(at(site4, 1001), netip.Addr{}, bindTo(dev)), "UDP 203.0.113.5:1001"},
		{"bound to the interface, IPv6", udp(at(site6, 1001), netip.Addr{}, bindTo(dev)), "UDP [3fff:5::5]:1001"},
		{"bound to the address", udp(at(site4, 1002), client4.Addr()), "UDP 203.0.113.5:1002"},
		{"bound to the address, IPv6", udp(at(site6, 1002), client6.Addr()), "UDP [3fff:5::5]:1002"},
		{"a neighbour", udp(at(router4.Addr(), 1003), netip.Addr{}), "UDP 192.168.7.1:1003"},
		{"mDNS", multicast4(dev, netip.MustParseAddrPort("224.0.0.251:5353")), "UDP 224.0.0.251:5353"},
		{"mDNS, IPv6", multicast6(dev, netip.MustParseAddrPort("[ff02::fb]:5353")), "UDP [ff02::fb]:5353"},
		{"LLMNR", multicast4(dev, netip.MustParseAddrPort("224.0.0.252:5355")), "UDP 224.0.0.252:5355"},
		{"SSDP", multicast4(dev, netip.MustParseAddrPort("239.255.255.250:1900")), "UDP 239.255.255.250:1900"},
		{"broadcast", broadcast(netip.MustParseAddrPort("192.168.7.255:137")), "UDP 192.168.7.255:137"},
		{"behind a private route", udp(at(private4, 1004), netip.Addr{}), "UDP 10.1.2.3:1004"},
		{"behind a private route, IPv6", udp(at(private6, 1004), netip.Addr{}), "UDP [fd00:1::3]:1004"},
		{"behind a private route, bound", udp(at(private4, 1005), netip.Addr{}, bindTo(dev)), "UDP 10.1.2.3:1005"},
	}
}

// try makes the attempts and returns what the router saw of the client's meanwhile, but for marked packets.
func (w *world) try(t *testing.T, list []attempt) (strays []string) {
	t.Helper()
	before := len(w.seen.Frames())
	must(t, w.client.Do(func() error {
		for _, a := range list {
			_ = a.do() // most are refused, which is what we want
		}
		return nil
	}))
	w.marked(t) // comes after them all, on the same wire
	return w.strays(w.seen.Frames()[before:])
}

func (w *world) strays(frames []capture.Frame) (strays []string) {
	for _, f := range frames {
		if f.Outgoing || !bytes.Equal(f.Data[6:12], w.mac) {
			continue
		}
		if s := describe(f.Data); s != "" {
			strays = append(strays, s)
		}
	}
	return strays
}

// describe names what is in a frame, or returns "" for what may always pass: packets to the gateway's port, and the
// search for neighbours whose addresses are on the link.
func describe(frame []byte) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ether := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		if a, _ := netip.AddrFromSlice(arp.DstProtAddress); !client4.Masked().Contains(a) {
			return "ARP " + a.String()
		}
		return ""
	}
	if ether.EthernetType != layers.EthernetTypeIPv4 && ether.EthernetType != layers.EthernetTypeIPv6 {
		return fmt.Sprint("frame ", ether.EthernetType)
	}
	network := p.NetworkLayer()
	if network == nil {
		return "an undecodable packet"
	}
	to, _ := netip.AddrFromSlice(network.NetworkFlow().Dst().Raw())
	if l := p.TransportLayer(); l != nil {
		at := netip.AddrPortFrom(to, binary.BigEndian.Uint16(l.TransportFlow().Dst().Raw()))
		if at.Port() == tunnelPort {
			return ""
		}
		return fmt.Sprint(l.LayerType(), " ", at)
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		switch icmp.TypeCode.Type() {
		case layers.ICMPv6TypeRouterSolicitation, layers.ICMPv6TypeNeighborAdvertisement:
			return ""
		case layers.ICMPv6TypeNeighborSolicitation:
			target, _ := netip.AddrFromSlice(icmp.Payload[4:20])
			if client6.Masked().Contains(target) || target.IsLinkLocalUnicast() {
				return ""
			}
			return "neighbour solicitation " + target.String()
		}
		return fmt.Sprint("ICMP ", to)
	}
	if p.Layer(layers.LayerTypeICMPv4) != nil {
		return fmt.Sprint("ICMP ", to)
	}
	return fmt.Sprint("packet to ", to)
}

// withoutGroups leaves out where the kernel says which groups it is in, which it may if the local network may be reached.
func withoutGroups(strays []string) []string {
	return slices.DeleteFunc(strays, func(s string) bool { return s == "ICMP ff02::16" })
}

// tun is a TUN that the test reads, as Godwit would.
type tun struct {
	f    *os.File
	done chan struct{}

	mu      sync.Mutex
	packets [][]byte
}

func newTun(t *testing.T, h *netns.Host, name string) *tun {
	t.Helper()
	u := &tun{done: make(chan struct{})}
	must(t, h.Do(func() (err error) {
		u.f, _, err = iface.Create(name, false)
		return err
	}))
	go u.run()
	t.Cleanup(u.close)
	return u
}

func (u *tun) run() {
	defer close(u.done)
	b := make([]byte, 65536)
	for {
		n, err := u.f.Read(b)
		if err != nil {
			return
		}
		u.mu.Lock()
		u.packets = append(u.packets, bytes.Clone(b[:n]))
		u.mu.Unlock()
	}
}

func (u *tun) close() {
	u.f.Close()
	<-u.done
}

// drop forgets what has come so far.
func (u *tun) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.packets = nil
}

// read waits for a packet that looks like something.
func (u *tun) read(t *testing.T, what string, is func([]byte) bool) []byte {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		u.mu.Lock()
		i := slices.IndexFunc(u.packets, is)
		var p []byte
		if i >= 0 {
			p = u.packets[i]
			u.packets = slices.Delete(u.packets, 0, i+1)
		}
		u.mu.Unlock()
		if i >= 0 {
			return p
		}
	}
	t.Fatalf("no %s came into the TUN", what)
	return nil
}

// udpTo recognises a UDP packet.
func udpTo(to netip.AddrPort) func([]byte) bool {
	return func(p []byte) bool {
		at, network := 20, 16
		if p[0]>>4 == 6 {
			at, network = 40, 24
		}
		a, _ := netip.AddrFromSlice(p[network:at])
		protocol := p[9]
		if at == 40 {
			protocol = p[6]
		}
		return len(p) >= at+8 && protocol == unix.IPPROTO_UDP && a == to.Addr() && binary.BigEndian.Uint16(p[at+2:]) == to.Port()
	}
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// ip changes the client's network as other programs do.
func (w *world) ip(t *testing.T, change func(eth0 netlink.Link) error) {
	t.Helper()
	must(t, w.client.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return change(l)
	}))
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
