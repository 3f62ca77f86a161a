package forward_test

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/egress/forward"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/hostnet/forwarding"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// world is a gateway's machine, next to a site's, which has another address behind it:
//
//	sessions ── TUN ── gate 192.0.2.1, 2001:db8:2::1 ── eth0 ── eth0 ── site 192.0.2.9, 2001:db8:2::9 ── lo: far
type world struct {
	t          *testing.T
	gate, site *netns.Host
	state      string
	log        bytes.Buffer
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	netnstest.Need(t)
	netnstest.NeedTUN(t)
	w := &world{t: t, state: filepath.Join(t.TempDir(), "forward")}
	for _, h := range []struct {
		to   **netns.Host
		name string
	}{{&w.gate, "gate"}, {&w.site, "site"}} {
		made, err := netns.NewHost(h.name)
		must(t, err)
		t.Cleanup(func() { made.Close() })
		must(t, made.EnableIPv6())
		*h.to = made
	}
	must(t, netns.Connect(w.gate, "eth0", w.site, "eth0"))
	must(t, w.gate.AddAddr("eth0", gate4, ""), w.gate.AddAddr("eth0", gate6, ""))
	must(t, w.site.AddAddr("eth0", site4, ""), w.site.AddAddr("eth0", site6, ""))
	must(t, w.gate.AddDefaultRoute("eth0", site4.Addr()), w.gate.AddDefaultRoute("eth0", site6.Addr()))
	must(t, w.site.AddAddr("lo", netip.PrefixFrom(far4, 32), ""), w.site.AddAddr("lo", netip.PrefixFrom(far6, 128), ""))
	return w
}

// run runs a program on a host, with a script on its standard input.
func (w *world) run(h *netns.Host, script string, program string, args ...string) string {
	w.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &out
	must(w.t, h.Start(cmd))
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("%s %q: %v: %s", program, args, err, &out)
	}
	return out.String()
}

// snapshot is all that is changed of the gateway's machine.
func (w *world) snapshot() string {
	w.t.Helper()
	var b strings.Builder
	for _, args := range []string{"nft list ruleset", "ip -brief link", "ip -4 route show table all", "ip -6 route", "ip rule",
		"sysctl -a --pattern net.ipv[46].conf"} {
		f := strings.Fields(args)
		b.WriteString(w.run(w.gate, "", f[0], f[1:]...))
	}
	return b.String()
}

// gateway is what one process has.
type gateway struct {
	w       *world
	sockets *egress.Sockets
	net     *forwarding.TUN
	*forward.Egress
}

func (w *world) config() egress.Config {
	return egress.Config{Router: true, Allow: []netip.Prefix{gate4.Masked(), gate6.Masked(), netip.PrefixFrom(far4, 32), netip.PrefixFrom(far6, 128),
		netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd00:7::/64")}, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
}

func (w *world) open(all bool) (*gateway, error) {
	w.t.Helper()
	g := &gateway{w: w}
	err := w.gate.Do(func() (err error) {
		if g.sockets, err = egress.New(w.config()); err != nil {
			return err
		}
		g.net, err = forwarding.Open(w.state, network)
		return err
	})
	must(w.t, err)
	within := w.gate.Do
	g.Egress, err = forward.New(forward.Config{Sockets: g.sockets, TUN: g.net.File, Number: g.net.Number, All: all,
		Take:    func(a ...netip.Addr) error { return within(func() error { return g.net.Take(a...) }) },
		Release: func(a ...netip.Addr) { within(func() error { g.net.Release(a...); return nil }) },
		Forget:  func(a []netip.Addr) error { return within(func() error { return g.net.Forget(a) }) },
		Log:     slog.New(slog.NewTextHandler(&w.log, nil))})
	return g, err
}

func (w *world) mustOpen(all bool) *gateway {
	w.t.Helper()
	g, err := w.open(all)
	must(w.t, err)
	w.t.Cleanup(g.close)
	return g
}

func (g *gateway) close() {
	g.Egress.Close()
	if err := g.w.gate.Do(g.net.Close); err != nil {
		g.w.t.Error(err)
	}
	g.sockets.Close()
}

// hold is another process, which is killed.
func (w *world) hold() *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envHold+"="+w.state)
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, w.gate.Start(cmd))
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		w.t.Fatalf("another process says %q", line)
	}
	return cmd
}

// member is a session.
type member struct {
	t      *testing.T
	w      *world
	v4, v6 netip.Addr
	sink   flow.PacketSink
	got    chan []byte
}

func (g *gateway) member(v4, v6 netip.Addr) *member {
	g.w.t.Helper()
	m := &member{t: g.w.t, w: g.w, v4: v4, v6: v6, got: make(chan []byte, 100)}
	var err error
	m.sink, err = g.Forward(v4, v6, func(b []byte) {
		select {
		case m.got <- append([]byte(nil), b...):
		default:
		}
	})
	must(g.w.t, err)
	return m
}

// own is the member's address of the family of to.
func (m *member) own(to netip.Addr) netip.Addr {
	if to.Is4() {
		return m.v4
	}
	return m.v6
}

// ask sends a packet and returns the next that comes; a nil one did not within the time.
func (m *member) ask(b []byte, patience time.Duration) *packet.Packet {
	m.t.Helper()
	m.send(b)
	return m.next(patience)
}

// send writes from within the gateway's network, in which sockets then are.
func (m *member) send(b []byte) {
	must(m.t, m.w.gate.Do(func() error {
		m.sink.WritePacket(b)
		return nil
	}))
}

func (m *member) next(patience time.Duration) *packet.Packet {
	m.t.Helper()
	select {
	case b := <-m.got:
		p, err := packet.Parse(b)
		must(m.t, err)
		if p.Dst != m.v4 && p.Dst != m.v6 {
			m.t.Fatalf("%v gets what is for %v", m.v4, p.Dst)
		}
		return &p
	case <-time.After(patience):
		return nil
	}
}

// icmp is what the next packet says.
func icmp(p *packet.Packet) string {
	if p == nil {
		return "nothing"
	}
	m, err := p.ICMP()
	if err != nil {
		return fmt.Sprintf("protocol %d from %v", p.Proto, p.Src)
	}
	s := fmt.Sprintf("%d from %v", m.Kind, p.Src)
	if q, err := m.Quoted(); err == nil {
		s += fmt.Sprintf(" about %v to %v", q.Src, q.Dst)
	}
	return s
}

func udp(t *testing.T, from, to netip.AddrPort, payload string) []byte {
	t.Helper()
	b, err := packet.AppendUDP(nil, from, to, []byte(payload))
	must(t, err)
	if from.Addr().Is4() && len(b) > 1500 { // whoever sends fragments over IPv4 says that they may be made
		mayFragment(b)
	}
	return b
}

func mayFragment(b []byte) {
	packet.AdjustChecksum(b[10:], 0x4000, 0, true)
	b[6] = 0
}

// raw makes a packet of a protocol that nothing here knows.
func raw(t *testing.T, proto byte, from, to netip.Addr, payload string) []byte {
	t.Helper()
	b := udp(t, netip.AddrPortFrom(from, 0x1234), netip.AddrPortFrom(to, 0x5678), payload)
	if from.Is6() {
		b[6] = proto
	} else {
		packet.AdjustChecksum(b[10:], uint64(b[9]), uint64(proto), true)
		b[9] = proto
	}
	return b
}

// hops gives a packet so many.
func hops(b []byte, n byte) []byte {
	if b[0]>>4 == 6 {
		b[7] = n
		return b
	}
	packet.AdjustChecksum(b[10:], uint64(b[8])<<8, uint64(n)<<8, true)
	b[8] = n
	return b
}

// echo answers what comes to a host, over that network, and tells from whom.
func (w *world) echo(h *netns.Host, network, address string) (from chan netip.Addr) {
	w.t.Helper()
	from = make(chan netip.Addr, 1000)
	var c net.PacketConn
	must(w.t, h.Do(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	}))
	w.t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, a, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], a)
			switch a := a.(type) {
			case *net.UDPAddr:
				from <- a.AddrPort().Addr().Unmap()
			case *net.IPAddr:
				ip, _ := netip.AddrFromSlice(a.IP)
				from <- ip.Unmap()
			}
		}
	}()
	return from
}

// flowsOf lists whom the kernel's connection tracking knows on the gateway's machine.
func flowsOf(w *world) (s string, err error) {
	err = w.gate.Do(func() error {
		var b strings.Builder
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			if err != nil {
				return err
			}
			for _, f := range flows {
				fmt.Fprintf(&b, "%v > %v\n", f.Forward.SrcIP, f.Forward.DstIP)
			}
		}
		s = b.String()
		return nil
	})
	return s, err
}

func routeTo(a, via netip.Addr) netns.Route {
	return netns.Route{To: netip.PrefixFrom(a, a.BitLen()), Dev: "eth0", Via: via}
}

// difference are the lines that only one of two texts has.
func difference(a, b string) (d string) {
	for _, side := range []struct{ sign, have, miss string }{{"- ", a, b}, {"+ ", b, a}} {
		for line := range strings.Lines(side.have) {
			if !strings.Contains(side.miss, line) {
				d += side.sign + line
			}
		}
	}
	return d
}
