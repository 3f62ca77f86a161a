package forward_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/lab/netns"
)

const (
	patience = 10 * time.Second
	silence  = 300 * time.Millisecond // how long what must not come is waited for
)

// Every protocol crosses, over both IP versions, from behind the gateway's address, and only answers come back.
func TestCarries(t *testing.T) {
	w := newWorld(t)
	g := w.mustOpen(true)
	anna := g.member(anna4, anna6)
	for _, to := range []netip.Addr{site4.Addr(), site6.Addr(), far4, far6} {
		gate, own := gate4.Addr(), anna.own(to)
		if to.Is6() {
			gate = gate6.Addr()
		}
		echoed := w.echo(w.site, "udp", netip.AddrPortFrom(to, 7).String())
		for _, n := range []int{0, 1, 1452, 1472, 1500, 9000, 65507} {
			text := strings.Repeat("x", n)
			p := anna.ask(udp(t, netip.AddrPortFrom(own, 4000), netip.AddrPortFrom(to, 7), text), patience)
			if p == nil {
				t.Fatalf("%d bytes to %v do not come back", n, to)
			}
			if u, err := p.UDP(); err != nil || string(u.Payload) != text || u.Src.Addr() != to {
				t.Fatalf("%d bytes to %v: %s", n, to, icmp(p))
			}
			if from := <-echoed; from != gate {
				t.Errorf("to %v, it comes from %v", to, from)
			}
		}
		network := "ip4:253"
		if to.Is6() {
			network = "ip6:253"
		}
		w.echo(w.site, network, to.String())
		if p := anna.ask(raw(t, 253, own, to, "experiment"), patience); p == nil || p.Proto != 253 || p.Src != to {
			t.Errorf("protocol 253 to %v: %s", to, icmp(p))
		}
		ping, _ := packet.AppendEcho(nil, false, own, to, 9, 1, []byte("ping"))
		if s := icmp(anna.ask(ping, patience)); s != fmt.Sprintf("%d from %v", packet.EchoReply, to) {
			t.Errorf("ping of %v: %s", to, s)
		}
	}
	// What the world has to say about packets, by ICMP.
	for _, to := range []netip.Addr{site4.Addr(), site6.Addr()} {
		own, hop := netip.AddrPortFrom(anna.own(to), 4000), network.Own4
		if to.Is6() {
			hop = network.Own6
		}
		about := func(kind packet.Kind, from netip.Addr, port uint16) string {
			return fmt.Sprintf("%d from %v about %v to %v", kind, from, own, netip.AddrPortFrom(to, port))
		}
		if s := icmp(anna.ask(hops(udp(t, own, netip.AddrPortFrom(to, 7), "x"), 1), patience)); s != about(packet.TimeExceeded, hop, 7) {
			t.Errorf("with one hop: %s", s)
		}
		if s := icmp(anna.ask(udp(t, own, netip.AddrPortFrom(to, 6), "x"), patience)); s != about(packet.Unreachable, to, 6) {
			t.Errorf("a closed port: %s", s)
		}
	}
	// An ICMP timestamp.
	stamp := raw(t, packet.ProtoICMP, anna4, site4.Addr(), strings.Repeat("\x00", 12))
	copy(stamp[20:], []byte{13, 0, 0, 0, 0, 9, 0, 1})
	stamp = icmpSum(stamp)
	if p := anna.ask(stamp, patience); p == nil || p.Payload[0] != 14 || p.Payload[5] != 9 {
		t.Errorf("a timestamp: %s", icmp(p))
	}
}

func icmpSum(b []byte) []byte {
	b[22], b[23] = 0, 0
	packet.FinishChecksum(b[20:], 2)
	return b
}

// What is too long for the way is told of, and what is put together from fragments goes in fragments then.
func TestTooLong(t *testing.T) {
	w := newWorld(t)
	g := w.mustOpen(true)
	anna := g.member(anna4, anna6)
	for _, h := range []*netns.Host{w.gate, w.site} {
		w.run(h, "", "ip", "link", "set", "eth0", "mtu", "1400")
	}
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(far4, 7), netip.AddrPortFrom(far6, 7)} {
		w.echo(w.site, "udp", to.String())
		own := netip.AddrPortFrom(anna.own(to.Addr()), 4000)
		long := udp(t, own, to, strings.Repeat("x", 1430))
		p := anna.ask(append([]byte(nil), long...), patience)
		if p == nil {
			t.Fatalf("nobody tells that it is too long for the way to %v", to)
		}
		if m, err := p.ICMP(); err != nil || m.Kind != packet.TooBig || m.MTU != 1400 {
			t.Errorf("too long: %s", icmp(p))
		}
		if to.Addr().Is4() {
			mayFragment(long)
		}
		if p := anna.ask(long, patience); p == nil || p.Proto != packet.ProtoUDP {
			t.Errorf("as fragments: %s", icmp(p))
		}
	}
}

// The policy is that of sockets, and nobody comes in who was not asked: not from outside, not from another session, not to the
// gateway's machine, and not in another's name.
func TestKeepsApart(t *testing.T) {
	w := newWorld(t)
	g := w.mustOpen(true)
	anna, bert := g.member(anna4, anna6), g.member(bert4, bert6)
	for _, to := range []string{"10.0.0.1:9", "169.254.169.254:80", "127.0.0.1:53", "100.100.100.200:80", "[::1]:53", "[fd00:ec2::254]:80",
		"[fe80::1]:9", "192.0.2.9:25", "[2001:db8:2::9]:25"} {
		to := netip.MustParseAddrPort(to)
		for _, b := range [][]byte{udp(t, netip.AddrPortFrom(anna.own(to.Addr()), 4000), to, "x"),
			raw(t, 132, anna.own(to.Addr()), to.Addr(), "x")} {
			if b[9] == 132 || b[6] == 132 { // SCTP, whose ports are there, too
				b[len(b)-9+2], b[len(b)-9+3] = byte(to.Port()>>8), byte(to.Port())
			}
			p := anna.ask(b, patience)
			if p == nil {
				t.Errorf("to %v: nobody tells", to)
				continue
			}
			if m, err := p.ICMP(); err != nil || m.Kind != packet.Unreachable || m.Reason() != packet.Prohibited {
				t.Errorf("to %v: %s", to, icmp(p))
			}
		}
	}
	// The policy of this test allows sessions' own networks, so that it is the firewall that keeps them apart.
	anna.send(udp(t, netip.AddrPortFrom(anna4, 1), netip.AddrPortFrom(bert4, 2), "x"))
	anna.send(udp(t, netip.AddrPortFrom(anna6, 1), netip.AddrPortFrom(bert6, 2), "x"))
	// The gateway's own services.
	heard := w.echo(w.gate, "udp", ":5353")
	anna.send(udp(t, netip.AddrPortFrom(anna4, 1), netip.AddrPortFrom(network.Own4, 5353), "x"))
	anna.send(udp(t, netip.AddrPortFrom(anna4, 1), netip.AddrPortFrom(gate4.Addr(), 5353), "x"))
	// Who has a session's address for a neighbour of its own, and the gateway's machine.
	must(t, w.site.AddRoute(routeTo(anna4, gate4.Addr())), w.site.AddRoute(routeTo(anna6, gate6.Addr())))
	for _, h := range []*struct {
		do func(func() error) error
	}{{w.site.Do}, {w.gate.Do}} {
		for _, a := range []netip.Addr{anna4, anna6} {
			must(t, h.do(func() error {
				c, err := net.Dial("udp", netip.AddrPortFrom(a, 4000).String())
				if err == nil {
					c.Write([]byte("uninvited"))
					c.Close()
				}
				return nil // refused at once is as well
			}))
		}
	}
	// Options, which might route past the policy.
	w.echo(w.site, "udp", site4.Addr().String()+":7")
	routed := append([]byte(nil), udp(t, netip.AddrPortFrom(anna4, 1), netip.AddrPortFrom(site4.Addr(), 7), "x")...)
	options := []byte{1, 1, 1, 1, 1, 1, 1, 0}
	routed = append(routed[:20:20], append(options, routed[20:]...)...)
	routed[0] = 0x47
	routed[3] += 8
	routed[10], routed[11] = 0, 0
	packet.FinishChecksum(routed[:28], 10)
	anna.send(routed)
	for _, m := range []*member{anna, bert} {
		for p := m.next(silence); p != nil; p = m.next(silence) {
			if e, err := p.ICMP(); err == nil && e.Kind == packet.Unreachable {
				continue // which says that it was refused
			}
			t.Errorf("%v gets %s", m.v4, icmp(p))
		}
	}
	select {
	case from := <-heard:
		t.Errorf("the gateway's machine hears %v", from)
	default:
	}
}

// Sessions end, and nothing of them stays: addresses are free, and the kernel knows of no flow.
func TestForgets(t *testing.T) {
	w := newWorld(t)
	g := w.mustOpen(true)
	anna := g.member(anna4, anna6)
	w.echo(w.site, "udp", site4.Addr().String()+":7")
	if anna.ask(udp(t, netip.AddrPortFrom(anna4, 4000), netip.AddrPortFrom(site4.Addr(), 7), "x"), patience) == nil {
		t.Fatal("nothing comes")
	}
	if _, err := g.Forward(anna4, bert6, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an address for the second time: %v", err)
	}

	if tracked, err := flowsOf(w); err != nil || !strings.Contains(tracked, anna4.String()) {
		t.Fatalf("the kernel knows of no flow: %q, %v", tracked, err)
	}

	// One who scans does not fill the kernel's table.
	for port := range uint16(5000) {
		anna.send(udp(t, netip.AddrPortFrom(anna4, 4001), netip.AddrPortFrom(site4.Addr(), 10000+port), "x"))
	}
	tracked, err := flowsOf(w)
	must(t, err)
	if n := strings.Count(tracked, anna4.String()); n < 4000 || n > 4200 {
		t.Errorf("the kernel remembers %d flows of hers", n)
	}
	bert := g.member(bert4, bert6)
	if bert.ask(udp(t, netip.AddrPortFrom(bert4, 4000), netip.AddrPortFrom(site4.Addr(), 7), "x"), patience) == nil {
		t.Error("another session gets nothing")
	}
	anna.sink.Close()
	anna.sink.Close()
	deadline := time.Now().Add(patience)
	for {
		tracked, err := flowsOf(w)
		must(t, err)
		if !strings.Contains(tracked, anna4.String()) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the kernel remembers %s", tracked)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if routes := w.run(w.gate, "", "ip", "route"); strings.Contains(routes, anna4.String()) {
		t.Errorf("routes: %s", routes)
	}
	g.member(anna4, anna6)
}

// All is as it was when the last process has ended, also when one was killed; two at once do not disturb each other, and know
// whose addresses are taken.
func TestRestores(t *testing.T) {
	w := newWorld(t)
	before := w.snapshot()
	first := w.hold()
	second := w.mustOpen(true)
	w.echo(w.site, "udp", site4.Addr().String()+":7")
	carries := func(g *gateway) {
		t.Helper()
		m := g.member(anna4, anna6)
		defer m.sink.Close()
		if m.ask(udp(t, netip.AddrPortFrom(anna4, 4000), netip.AddrPortFrom(site4.Addr(), 7), "x"), patience) == nil {
			t.Error("nothing comes")
		}
	}
	carries(second)
	third := w.mustOpen(true)
	anna := second.member(anna4, anna6)
	if _, err := third.Forward(anna4, bert6, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another process's address: %v", err)
	}
	anna.sink.Close()
	carries(third)
	first.Process.Kill()
	first.Wait()
	second.close()
	carries(third)
	third.close()
	if after := w.snapshot(); after != before {
		t.Errorf("not as before:\n%s", difference(before, after))
	}

	killed := w.hold()
	killed.Process.Signal(syscall.SIGKILL)
	killed.Wait()
	if w.snapshot() == before {
		t.Error("who was killed has left nothing: this test shows nothing")
	}
	w.mustOpen(true).close()
	if after := w.snapshot(); after != before {
		t.Errorf("after one was killed and another has ended, not as before:\n%s", difference(before, after))
	}
}

// Another firewall that drops what is forwarded is found out; then sockets carry what they can.
func TestOthersFirewall(t *testing.T) {
	w := newWorld(t)
	w.run(w.gate, "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }\n"+
		"table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }", "nft", "-f", "-")
	g, err := w.open(false)
	if err == nil || !strings.Contains(err.Error(), "IPv4: what is forwarded does not leave") || !strings.Contains(err.Error(), "IPv6") {
		t.Fatalf("it is not found out: %v", err)
	}
	must(t, w.gate.Do(g.net.Close))
	g.sockets.Close()

	w.run(w.gate, "", "nft", "delete", "table", "ip6", "filter")
	g = w.mustOpen(false)
	anna := g.member(anna4, anna6)
	w.echo(w.site, "udp", site4.Addr().String()+":7")
	w.echo(w.site, "ip6:253", site6.Addr().String())
	if p := anna.ask(udp(t, netip.AddrPortFrom(anna4, 4000), netip.AddrPortFrom(site4.Addr(), 7), "x"), patience); p == nil || p.Proto != packet.ProtoUDP {
		t.Errorf("UDP, which sockets carry: %s", icmp(p))
	}
	if p := anna.ask(raw(t, 253, anna4, site4.Addr(), "x"), patience); icmp(p) == "nothing" || p.Proto != packet.ProtoICMP {
		t.Errorf("protocol 253, which the kernel does not forward: %s", icmp(p))
	}
	if p := anna.ask(raw(t, 253, anna6, site6.Addr(), "x"), patience); p == nil || p.Proto != 253 {
		t.Errorf("protocol 253 over IPv6: %s", icmp(p))
	}
}

// A machine that was no router becomes none for anybody but sessions, and for who comes later, as containers do.
func TestNoRouter(t *testing.T) {
	w := newWorld(t)
	neighbour := func(dev, net string) *netns.Host {
		h, err := netns.NewHost(dev)
		must(t, err)
		t.Cleanup(func() { h.Close() })
		must(t, netns.Connect(w.gate, dev, h, "eth0"))
		near, far := netip.MustParsePrefix(net+".1/24"), netip.MustParsePrefix(net+".2/24")
		must(t, w.gate.AddAddr(dev, near, ""), h.AddAddr("eth0", far, ""), h.AddDefaultRoute("eth0", near.Addr()),
			w.site.AddRoute(netns.Route{To: far.Masked(), Dev: "eth0", Via: gate4.Addr()}))
		return h
	}
	heard := w.echo(w.site, "udp", site4.Addr().String()+":7")
	gets := func(h *netns.Host, patience time.Duration) bool {
		must(t, h.Do(func() error {
			c, err := net.Dial("udp", site4.Addr().String()+":7")
			if err == nil {
				c.Write([]byte("x"))
				c.Close()
			}
			return err
		}))
		select {
		case <-heard:
			return true
		case <-time.After(patience):
			return false
		}
	}
	before := neighbour("eth1", "10.5.0")
	w.mustOpen(true)
	after := neighbour("eth2", "10.6.0")
	if gets(before, silence) {
		t.Error("the machine forwards what it did not forward before")
	}
	if !gets(after, patience) {
		t.Error("the machine does not forward for an interface that came later")
	}
}
