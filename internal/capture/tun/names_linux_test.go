package tun_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/rules"
)

// Connections to an address that stands for a name are opened to the name, and to nobody once it stands for none.
func TestConnectionsToNames(t *testing.T) {
	m := newMachine(t)
	m.mu.Lock()
	for _, a := range []string{"198.19.3.4", "fd67:6f64:7769:7401::34"} {
		m.names[netip.MustParseAddr(a)] = "site.example"
	}
	m.behind["site.example:443"] = echo
	m.behind["site.example:22"] = echo
	m.fails["site.example:1"] = flow.CodeRefused
	m.mu.Unlock()
	for _, a := range []string{"198.19.3.4", "fd67:6f64:7769:7401::34"} {
		for _, port := range []string{"443", "22"} {
			if _, err := m.dial(net.JoinHostPort(a, port)); err != nil {
				t.Errorf("%s, port %s: %v", a, port, err)
			}
		}
		if _, err := m.dial(net.JoinHostPort(a, "1")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s, a port nobody listens on: %v", a, err)
		}
	}
	m.mu.Lock()
	if want := []bool{true, false, false, true, false, false}; !slices.Equal(m.early, want) {
		t.Errorf("early: %v, want %v", m.early, want)
	}
	m.mu.Unlock()
	for _, unknown := range []string{"198.19.3.5:443", "[fd67:6f64:7769:7401::35]:443"} {
		if _, err := m.dial(unknown); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("an address that stands for nothing: %v", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.early) != 6 {
		t.Error("a stream was opened to an address that stands for nothing")
	}
}

// next is the next packet that left.
func (m *machine) next() packet.Packet {
	m.t.Helper()
	select {
	case b := <-m.sent:
		p, err := packet.Parse(b)
		if err != nil {
			m.t.Fatal(err)
		}
		return p
	case <-time.After(5 * time.Second):
		m.t.Fatal("no packet left")
		return packet.Packet{}
	}
}

// errorQueue lets a UDP socket hear of all ICMP errors, as QUIC's do.
func errorQueue(t *testing.T, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if c.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Datagrams to an address that stands for a name go to one of the name's, and answers and errors seem to come from where they went.
func TestDatagramsToNames(t *testing.T) {
	for _, v := range []struct {
		a, b, none, unknown string
		r1, r2              string
		inner               netip.Addr
	}{
		{"198.19.3.4", "198.19.3.5", "198.19.3.6", "198.19.3.7", "203.0.113.5", "203.0.113.6", inner4},
		{"fd67:6f64:7769:7401::4", "fd67:6f64:7769:7401::5", "fd67:6f64:7769:7401::6", "fd67:6f64:7769:7401::7", "2001:db8::5",
			"2001:db8::6", inner6},
	} {
		m := newMachine(t)
		addr := netip.MustParseAddr
		r1, r2 := addr(v.r1), addr(v.r2)
		m.mu.Lock()
		m.names[addr(v.a)], m.names[addr(v.b)], m.names[addr(v.none)] = "a.example", "b.example", "none.example"
		m.real["a.example"] = []netip.Addr{r1}
		m.real["b.example"] = []netip.Addr{r1, r2} // they share one, as sites behind a CDN do
		m.mu.Unlock()

		// One socket that speaks to both names hears each answer from whom it was to.
		var both *net.UDPConn
		if err := m.host.DoApart(func() (err error) {
			both, err = net.ListenUDP("udp", nil)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { both.Close() })
		both.SetDeadline(time.Now().Add(10 * time.Second))
		port := both.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		for _, c := range []struct {
			to   string
			real netip.Addr
			name string
		}{{v.a, r1, "a.example"}, {v.b, r2, "b.example"}, {v.a, r1, "a.example"}} {
			to, real := netip.AddrPortFrom(addr(c.to), 443), netip.AddrPortFrom(c.real, 443)
			if _, err := both.WriteToUDPAddrPort([]byte("question"), to); err != nil {
				t.Fatal(err)
			}
			p := m.next()
			u, err := p.UDP()
			if err != nil || u.Src != netip.AddrPortFrom(v.inner, port) || u.Dst != real || string(u.Payload) != "question" {
				t.Fatalf("%+v, %v", u, err)
			}
			m.mu.Lock()
			if last := m.sentTo[len(m.sentTo)-1]; last != c.name {
				t.Errorf("sent as one to %q, want %q", last, c.name)
			}
			m.mu.Unlock()
			back, _ := packet.AppendUDP(nil, real, u.Src, []byte("answer"))
			m.capture.Deliver(back)
			b := make([]byte, 100)
			n, from, err := both.ReadFromUDPAddrPort(b)
			if err != nil || string(b[:n]) != "answer" || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != to {
				t.Fatalf("%q from %v, %v; it went to %v", b[:n], from, err, to)
			}
		}

		// An error about such a datagram reaches its socket.
		c := m.udp("udp", netip.AddrPortFrom(addr(v.a), 4500))
		c.Write([]byte("x"))
		p := m.next()
		about, _ := packet.AppendUnreachable(nil, r1, packet.NoPort, &p)
		m.capture.Deliver(about)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port unreachable came as %v", err)
		}

		// The address comes to stand for another name: what was of the first is not sent on.
		m.mu.Lock()
		m.names[addr(v.a)] = "b.example"
		m.real["b.example"] = []netip.Addr{r2}
		m.mu.Unlock()
		c = m.udp("udp", netip.AddrPortFrom(addr(v.a), 4500))
		c.Write([]byte("x"))
		if p := m.next(); p.Dst != r2 {
			t.Errorf("to %v", p.Dst)
		}

		// A name without such an address, an address that stands for nothing, and what a rule blocks.
		m.mu.Lock()
		m.ways["b.example"] = rules.Block
		m.mu.Unlock()
		for to, want := range map[string]syscall.Errno{v.none: syscall.EHOSTUNREACH, v.unknown: syscall.EHOSTUNREACH, v.b: syscall.EACCES} {
			c := m.udp("udp", netip.AddrPortFrom(addr(to), 443))
			errorQueue(t, c)
			c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 1))
			if !errors.Is(err, want) && !(want == syscall.EACCES && errors.Is(err, syscall.EHOSTUNREACH)) { // IPv4's says that
				t.Errorf("%s: %v, want %v", to, err, want)
			}
		}
		select {
		case b := <-m.sent:
			t.Errorf("a packet of %d bytes left", len(b))
		default:
		}
	}
}

// What a rule sends directly leaves as its application has sent it, also without a link; answers and errors find their way back.
func TestDatagramsPast(t *testing.T) {
	m := newMachine(t)
	stands, real := netip.MustParseAddr("198.19.3.4"), netip.MustParseAddr("203.0.113.5")
	m.mu.Lock()
	m.names[stands], m.real["a.example"], m.down = "a.example", []netip.Addr{real}, true
	m.ways["a.example"], m.ways["203.0.113.5:443"] = rules.Direct, rules.Direct
	m.mu.Unlock()
	for _, to := range []netip.Addr{stands, real} {
		c := m.udp("udp4", netip.AddrPortFrom(to, 443))
		c.Write([]byte("question"))
		var p packet.Packet
		select {
		case b := <-m.past:
			p, _ = packet.Parse(b)
		case b := <-m.sent:
			t.Fatalf("%d bytes went into the tunnel", len(b))
		case <-time.After(5 * time.Second):
			t.Fatal("no packet left")
		}
		u, err := p.UDP()
		local := c.LocalAddr().(*net.UDPAddr).AddrPort()
		if err != nil || u.Src != local || u.Dst != netip.AddrPortFrom(real, 443) || string(u.Payload) != "question" {
			t.Fatalf("%+v, %v", u, err)
		}
		m.mu.Lock()
		if app := m.apps[len(m.apps)-1]; app != (owner.Socket{UDP: true, Local: local, Remote: netip.AddrPortFrom(to, 443)}) {
			t.Errorf("it was asked about %+v", app)
		}
		m.mu.Unlock()
		back, _ := packet.AppendUDP(nil, u.Dst, u.Src, []byte("answer"))
		m.capture.Deliver(back)
		b := make([]byte, 100)
		if n, err := c.Read(b); err != nil || string(b[:n]) != "answer" { // connected: only from whom it was to
			t.Errorf("%q, %v", b[:n], err)
		}
		about, _ := packet.AppendUnreachable(nil, real, packet.NoPort, &p)
		m.capture.Deliver(about)
		if _, err := c.Read(b); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port unreachable came as %v", err)
		}
	}
	c := m.udp("udp4", netip.AddrPortFrom(real, 4500))
	c.Write([]byte("x"))
	if p := m.next(); p.Src != inner4 {
		t.Errorf("another port's went from %v", p.Src)
	}
}

// ping of a name.
func TestEchoToName(t *testing.T) {
	m := newMachine(t)
	to, real := netip.MustParseAddr("198.19.3.4"), netip.MustParseAddr("203.0.113.5")
	m.mu.Lock()
	m.names[to], m.real["site.example"] = "site.example", []netip.Addr{real}
	m.mu.Unlock()
	raw := m.raw(t, "ip4:icmp", own4)
	for seq := range uint16(2) {
		request, _ := packet.AppendEcho(nil, false, own4, to, 7, seq, []byte("ping"))
		raw.WriteTo(request[20:], &net.IPAddr{IP: to.AsSlice()})
		if p := m.next(); p.Dst != real {
			t.Errorf("to %v", p.Dst)
		}
		reply, _ := packet.AppendEcho(nil, true, real, inner4, 7, seq, []byte("ping"))
		m.capture.Deliver(reply)
		raw.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 100)
		for {
			n, from, err := raw.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			if n >= 8 && b[0] == 0 {
				if from.String() != to.String() {
					t.Errorf("the reply is from %v", from)
				}
				break
			}
		}
	}
}

// More talks than are remembered: the quiet ones are forgotten, and begin anew.
func TestManyTalks(t *testing.T) {
	m := newMachine(t)
	to := netip.MustParseAddr("198.19.3.4")
	m.mu.Lock()
	m.names[to], m.real["site.example"] = "site.example", []netip.Addr{netip.MustParseAddr("203.0.113.5")}
	m.mu.Unlock()
	var c *net.UDPConn
	if err := m.host.DoApart(func() (err error) {
		c, err = net.ListenUDP("udp4", nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 9000 { // which are to as many ports
		if _, err := c.WriteToUDPAddrPort(fmt.Append(nil, i), netip.AddrPortFrom(to, uint16(1000+i))); err != nil {
			t.Fatal(err)
		}
		m.next()
	}
	for _, port := range []uint16{1000, 9999} {
		c.WriteToUDPAddrPort([]byte("again"), netip.AddrPortFrom(to, port))
		p := m.next()
		u, err := p.UDP()
		if err != nil || u.Dst.Port() != port || string(u.Payload) != "again" {
			t.Fatalf("%+v, %v", u, err)
		}
		back, _ := packet.AppendUDP(nil, u.Dst, u.Src, []byte("answer"))
		m.capture.Deliver(back)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 10)); err != nil || from.Addr() != to || from.Port() != port {
			t.Errorf("from %v, %v", from, err)
		}
	}
}
