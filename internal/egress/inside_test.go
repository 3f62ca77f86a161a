package egress

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

var (
	inner4 = netip.MustParseAddr("10.77.0.2")
	inner6 = netip.MustParseAddr("fd77::2")
	lo4    = netip.MustParseAddr("127.0.0.1")
	lo6    = netip.IPv6Loopback()
)

// inside is a session's side of a sink: it keeps the packets that come back.
type inside struct {
	t    testing.TB
	sink flow.PacketSink
	got  chan []byte
}

func newInside(t testing.TB, s *Sockets) *inside {
	t.Helper()
	in := &inside{t: t, got: make(chan []byte, 1000)}
	in.sink = s.Packets(func(b []byte) {
		select {
		case in.got <- bytes.Clone(b):
		default:
		}
	})
	t.Cleanup(func() { in.sink.Close() })
	return in
}

func innerOf(to netip.Addr, port uint16) netip.AddrPort {
	if to.Is4() {
		return netip.AddrPortFrom(inner4, port)
	}
	return netip.AddrPortFrom(inner6, port)
}

// send sends payload from an inner port.
func (in *inside) send(port uint16, to netip.AddrPort, payload string) {
	in.t.Helper()
	b, err := packet.AppendUDP(nil, innerOf(to.Addr(), port), to, []byte(payload))
	if err != nil {
		in.t.Fatal(err)
	}
	in.sink.WritePacket(b)
}

// recv waits for a packet.
func (in *inside) recv() packet.Packet {
	in.t.Helper()
	select {
	case b := <-in.got:
		p, err := packet.Parse(b)
		if err != nil {
			in.t.Fatalf("%x: %v", b, err)
		}
		return p
	case <-time.After(5 * time.Second):
		in.t.Fatal("no packet came back")
		panic("unreachable")
	}
}

func (in *inside) recvUDP() packet.UDP {
	in.t.Helper()
	p := in.recv()
	u, err := p.UDP()
	if err != nil {
		in.t.Fatal(err)
	}
	return u
}

// recvError waits for an ICMP error.
func (in *inside) recvError() (packet.Reason, packet.Quote) {
	in.t.Helper()
	p := in.recv()
	m, err := p.ICMP()
	if err != nil {
		in.t.Fatal(err)
	}
	q, err := m.Quoted()
	if err != nil || m.Kind != packet.Unreachable {
		in.t.Fatalf("%+v: %v", m, err)
	}
	if p.Dst != q.Src.Addr() || p.Src != q.Dst.Addr() {
		in.t.Errorf("error about %v to %v goes from %v to %v", q.Src, q.Dst, p.Src, p.Dst)
	}
	return m.Reason(), q
}

func (in *inside) nothing() {
	in.t.Helper()
	select {
	case b := <-in.got:
		in.t.Errorf("got %x", b)
	default:
	}
}

// host is a real UDP socket elsewhere.
type host struct {
	t testing.TB
	*net.UDPConn
	at netip.AddrPort
}

func newHost(t testing.TB, a netip.Addr) *host {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		t.Skipf("no %v here: %v", a, err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &host{t, c, c.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (h *host) recv() (string, netip.AddrPort) {
	h.t.Helper()
	b := make([]byte, 65536)
	n, from, err := h.ReadFromUDPAddrPort(b)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func (h *host) send(payload string, to netip.AddrPort) {
	h.t.Helper()
	if _, err := h.WriteToUDPAddrPort([]byte(payload), to); err != nil {
		h.t.Fatal(err)
	}
}

// sees takes what has come, which must be want, and says where from.
func (h *host) sees(want string) netip.AddrPort {
	h.t.Helper()
	got, from := h.recv()
	if got != want {
		h.t.Errorf("got %q, want %q", got, want)
	}
	return from
}
