package egress

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
)

func TestUDPEndToEnd(t *testing.T) {
	t.Parallel()
	for _, lo := range []netip.Addr{lo4, lo6} {
		s := newSockets(t, Config{})
		in, h := newInside(t, s), newHost(t, lo)
		for _, size := range []int{0, 1, 1200, 1472, 9000, 60000} {
			payload := strings.Repeat("x", size)
			in.send(4000, h.at, payload)
			got, from := h.recv()
			if got != payload {
				t.Fatalf("%v: %d bytes arrived as %d", lo, size, len(got))
			}
			h.send(payload+"!", from)
			u := in.recvUDP()
			if string(u.Payload) != payload+"!" || u.Src != h.at || u.Dst != innerOf(lo, 4000) {
				t.Fatalf("%v: %d bytes came back as %d, from %v to %v", lo, size, len(u.Payload), u.Src, u.Dst)
			}
		}
		if st := s.Stats(); st.Mappings != 1 || st.MappingsOpened != 1 || st.PacketsOut != 6 || st.PacketsIn != 6 {
			t.Errorf("%v: counted %+v", lo, st)
		}
	}
}

// RFC 4787: one inner port is one port outside, whoever it talks to; other inner ports and other sessions have others.
func TestEndpointIndependentMapping(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{})
	one, two := newInside(t, s), newInside(t, s)
	a, b := newHost(t, lo4), newHost(t, lo4)
	one.send(4000, a.at, "1")
	first := a.sees("1")
	one.send(4000, b.at, "2")
	if from := b.sees("2"); from != first {
		t.Errorf("another host sees %v, want %v", from, first)
	}
	one.send(4001, a.at, "3")
	if from := a.sees("3"); from == first {
		t.Error("another port is the same outside")
	}
	two.send(4000, a.at, "4")
	other := a.sees("4")
	if other == first {
		t.Error("another session is the same outside")
	}
	// Answers go to whose mapping it is.
	a.send("to two", other)
	if u := two.recvUDP(); string(u.Payload) != "to two" {
		t.Errorf("got %q", u.Payload)
	}
	one.nothing()
}

func TestFiltering(t *testing.T) {
	t.Parallel()
	for _, byAddress := range []bool{false, true} {
		s := newSockets(t, Config{FilterByAddress: byAddress})
		in, a, b := newInside(t, s), newHost(t, lo4), newHost(t, netip.MustParseAddr("127.0.0.2"))
		in.send(4000, a.at, "hello")
		mapped := a.sees("hello")
		b.send("from a stranger", mapped)
		if byAddress {
			// Another port of the same address may answer.
			newHost(t, lo4).send("from a's other port", mapped)
			if u := in.recvUDP(); string(u.Payload) != "from a's other port" {
				t.Errorf("filtered: got %q", u.Payload)
			}
			if st := s.Stats(); st.PacketsDenied != 1 {
				t.Errorf("filtered: counted %+v", st)
			}
			in.send(4000, b.at, "hello")
			b.send("now known", b.sees("hello"))
			if u := in.recvUDP(); string(u.Payload) != "now known" || u.Src != b.at {
				t.Errorf("filtered: got %q from %v", u.Payload, u.Src)
			}
			continue
		}
		if u := in.recvUDP(); string(u.Payload) != "from a stranger" || u.Src != b.at {
			t.Errorf("got %q from %v", u.Payload, u.Src)
		}
	}
}

func TestFilterForgetsTheOldest(t *testing.T) {
	t.Parallel()
	m := &mapping{contacts: make(map[netip.Addr]time.Duration)}
	nth := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}) }
	for i := range maxContacts {
		m.contact(nth(i), time.Duration(i))
	}
	m.contact(nth(0), maxContacts)
	m.contact(nth(maxContacts), maxContacts+1)
	if len(m.contacts) != maxContacts || m.expects(nth(1)) || !m.expects(nth(0)) || !m.expects(nth(maxContacts)) {
		t.Errorf("%d contacts; the oldest %v, the renewed %v, the newest %v", len(m.contacts), m.expects(nth(1)),
			m.expects(nth(0)), m.expects(nth(maxContacts)))
	}
}

// What the policy refuses is told at once, and never leaves.
func TestPacketsDenied(t *testing.T) {
	t.Parallel()
	trap, trap6 := newHost(t, lo4), newHost(t, lo6)
	s := newSockets(t, Config{Allow: []netip.Prefix{}, Families: flow.IPv4})
	tests := []struct {
		to   netip.AddrPort
		want packet.Reason
	}{
		{trap.at, packet.Prohibited},
		{trap6.at, packet.Prohibited},
		{netip.MustParseAddrPort("10.0.0.1:53"), packet.Prohibited},
		{netip.MustParseAddrPort("169.254.169.254:80"), packet.Prohibited},
		{netip.MustParseAddrPort("[64:ff9b::7f00:1]:80"), packet.Prohibited},
		{netip.MustParseAddrPort("8.8.8.8:25"), packet.Prohibited},
		{netip.MustParseAddrPort("8.8.8.8:0"), packet.Prohibited},
		{netip.MustParseAddrPort("[2606:4700::1111]:443"), packet.NoRoute},
	}
	in := newInside(t, s)
	for _, tt := range tests {
		in.send(4000, tt.to, "x")
		why, q := in.recvError()
		if why != tt.want || q.Dst != tt.to || q.Src != innerOf(tt.to.Addr(), 4000) {
			t.Errorf("%v: got %v about %v to %v, want %v", tt.to, why, q.Src, q.Dst, tt.want)
		}
	}
	if st := s.Stats(); st.Mappings != 0 || st.PacketsOut != 0 || int(st.PacketsDenied) != len(tests) {
		t.Errorf("counted %+v", st)
	}
	// Multicast and broadcast are not told, as RFC 1122 has it.
	in.send(4000, netip.MustParseAddrPort("224.0.0.251:5353"), "x")
	in.send(4000, netip.MustParseAddrPort("255.255.255.255:67"), "x")
	in.nothing()
	// Nor is everything told to who asks too much.
	for range 1000 {
		in.send(4000, trap.at, "x")
	}
	if n := len(in.got); n > 2*tellsPerSecond {
		t.Errorf("%d errors told", n)
	}
}

func TestUpstreamHasNoUDP(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{Upstream: "socks5://127.0.0.1:1"})
	in, h := newInside(t, s), newHost(t, lo4)
	in.send(4000, h.at, "x")
	if why, _ := in.recvError(); why != packet.Prohibited {
		t.Errorf("told %v", why)
	}
	if st := s.Stats(); st.MappingsOpened != 0 {
		t.Errorf("counted %+v", st)
	}
}

// A mapping takes nothing from where the session could not have sent to.
func TestPacketsDeniedIn(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{Allow: prefixes(t, "127.0.0.1/32")})
	in, a, b := newInside(t, s), newHost(t, lo4), newHost(t, netip.MustParseAddr("127.0.0.2"))
	in.send(4000, a.at, "hello")
	mapped := a.sees("hello")
	b.send("from inside the gateway", mapped)
	a.send("answer", mapped)
	if u := in.recvUDP(); string(u.Payload) != "answer" {
		t.Errorf("got %q", u.Payload)
	}
	if st := s.Stats(); st.PacketsDenied != 1 {
		t.Errorf("counted %+v", st)
	}
}

func TestPacketsDropped(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	good, _ := packet.AppendUDP(nil, innerOf(lo4, 4000), h.at, []byte("good"))
	flip := func(i int) []byte { b := bytes.Clone(good); b[i] ^= 1; return b }
	noPort, _ := packet.AppendUDP(nil, innerOf(lo4, 0), h.at, []byte("x"))
	tcp := bytes.Clone(good)
	tcp[9] = packet.ProtoTCP
	tcp[11] += packet.ProtoUDP - packet.ProtoTCP
	reply, _ := packet.AppendEcho(nil, true, inner4, lo4, 1, 1, nil)
	p, _ := packet.Parse(good)
	icmpError, _ := packet.AppendUnreachable(nil, inner4, packet.NoPort, &p)
	bad := [][]byte{nil, {0x45}, good[:len(good)-1], append(bytes.Clone(good), 0), flip(10), flip(len(good) - 1), flip(26),
		noPort, tcp, reply, icmpError}
	for _, b := range bad {
		in.sink.WritePacket(b)
	}
	in.sink.WritePacket(good)
	h.sees("good")
	in.nothing()
	if st := s.Stats(); int(st.PacketsDropped) != len(bad) || st.PacketsOut != 1 {
		t.Errorf("counted %+v, want %d dropped", st, len(bad))
	}
}

// A port where nobody listens answers, and so the session hears of it.
func TestPortUnreachable(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux keeps these errors for sockets that are not connected")
	}
	for _, lo := range []netip.Addr{lo4, lo6} {
		s := newSockets(t, Config{})
		in, h, closed := newInside(t, s), newHost(t, lo), newHost(t, lo)
		closed.Close()
		for range 3 {
			in.send(4000, closed.at, "anyone?")
			why, q := in.recvError()
			if why != packet.NoPort || q.Dst != closed.at || q.Src != innerOf(lo, 4000) {
				t.Errorf("%v: told %v about %v to %v", lo, why, q.Src, q.Dst)
			}
			// The mapping goes on, and the error does not swallow a datagram to someone else.
			in.send(4000, h.at, "you?")
			h.send("yes", h.sees("you?"))
			if u := in.recvUDP(); string(u.Payload) != "yes" {
				t.Errorf("%v: got %q", lo, u.Payload)
			}
		}
		// Many at once, from which sending must recover too, if not for each and every one.
		for range 50 {
			in.send(4000, closed.at, "anyone?")
			in.send(4000, h.at, "you?")
		}
		seen, buf := 0, make([]byte, 100)
		for _ = h.SetReadDeadline(time.Now().Add(5 * time.Second)); seen < 45; seen++ {
			if _, _, err := h.ReadFromUDPAddrPort(buf); err != nil {
				t.Errorf("%v: %d of 50 arrived", lo, seen)
				break
			}
		}
	}
}

func FuzzWritePacket(f *testing.F) {
	u4, _ := packet.AppendUDP(nil, innerOf(lo4, 4000), netip.AddrPortFrom(lo4, 9), []byte("x"))
	u6, _ := packet.AppendUDP(nil, innerOf(lo6, 4000), netip.AddrPortFrom(lo6, 9), []byte("x"))
	e4, _ := packet.AppendEcho(nil, false, inner4, lo4, 1, 1, nil)
	e6, _ := packet.AppendEcho(nil, false, inner6, lo6, 1, 1, nil)
	for _, b := range [][]byte{u4, u6, e4, e6, {}} {
		f.Add(b)
	}
	// Nothing is open, so that nothing the fuzzer thinks of leaves this machine.
	s := newSockets(f, Config{Allow: []netip.Prefix{}, Own: []netip.AddrPort{}})
	s.policy.closed = make(map[uint16]bool)
	for port := range 1 << 16 {
		s.policy.closed[uint16(port)] = true
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k := s.Packets(func(back []byte) {
			p, err := packet.Parse(back)
			if err != nil {
				t.Fatalf("%x answered with %x: %v", b, back, err)
			}
			if _, err := p.ICMP(); err != nil {
				t.Fatalf("%x answered with %x: %v", b, back, err)
			}
		})
		defer k.Close()
		if p, err := packet.Parse(b); err == nil && p.Proto != packet.ProtoUDP {
			return // an echo has no port to be refused by
		}
		k.WritePacket(b)
		if st := s.Stats(); st.PacketsOut != 0 || st.MappingsOpened != 0 {
			t.Fatalf("%x left", b)
		}
	})
}

func BenchmarkUDPRoundTrip(b *testing.B) {
	s := newSockets(b, Config{})
	in, h := newInside(b, s), newHost(b, lo4)
	_ = h.SetDeadline(time.Time{})
	back := make(chan struct{}, 1)
	in.sink.Close()
	in.sink = s.Packets(func([]byte) { back <- struct{}{} })
	defer in.sink.Close()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := h.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = h.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	pkt, _ := packet.AppendUDP(nil, innerOf(lo4, 4000), h.at, make([]byte, 1200))
	b.ReportAllocs()
	for b.Loop() {
		in.sink.WritePacket(pkt)
		<-back
	}
}

func BenchmarkUDPOut(b *testing.B) {
	s := newSockets(b, Config{})
	in, h := newInside(b, s), newHost(b, lo4)
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d mappings", n), func(b *testing.B) {
			var pkts [][]byte
			for i := range n {
				p, _ := packet.AppendUDP(nil, innerOf(lo4, uint16(4000+i)), h.at, make([]byte, 1200))
				pkts = append(pkts, p)
			}
			b.ReportAllocs()
			for b.Loop() {
				in.sink.WritePacket(pkts[rand.IntN(n)])
			}
		})
	}
}
