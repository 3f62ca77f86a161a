package egress

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
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

// silent reports that nothing has come: what follows it on the same socket is the first to arrive.
func (h *host) sees(want string) netip.AddrPort {
	h.t.Helper()
	got, from := h.recv()
	if got != want {
		h.t.Errorf("got %q, want %q", got, want)
	}
	return from
}

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

func TestMappingBounds(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{SessionMappings: 4, MaxMappings: 6})
	one, two, three, h := newInside(t, s), newInside(t, s), newInside(t, s), newHost(t, lo4)
	outside := make(map[uint16]netip.AddrPort)
	for port := range uint16(4) {
		one.send(4000+port, h.at, "x")
		outside[4000+port] = h.sees("x")
	}
	one.send(4000, h.at, "x") // 4001 is now the one that has been silent longest
	if from := h.sees("x"); from != outside[4000] {
		t.Errorf("seen as %v, want %v", from, outside[4000])
	}
	one.send(5000, h.at, "x")
	h.sees("x")
	if st := s.Stats(); st.Mappings != 4 || st.MappingsOpened != 5 {
		t.Errorf("counted %+v", st)
	}
	one.send(4000, h.at, "x")
	if from := h.sees("x"); from != outside[4000] {
		t.Errorf("the wrong one was closed: seen as %v, want %v", from, outside[4000])
	}

	// All sessions together: who has some makes room among its own, who has none gets none.
	two.send(4000, h.at, "a")
	two.send(4001, h.at, "b")
	h.sees("a")
	h.sees("b")
	two.send(4002, h.at, "c")
	h.sees("c")
	three.send(4000, h.at, "never seen")
	if st := s.Stats(); st.Mappings != 6 || st.MappingsRefused != 1 {
		t.Errorf("counted %+v", st)
	}
	// What a session leaves is there for others, at once.
	if err := two.sink.Close(); err != nil {
		t.Error(err)
	}
	three.send(4000, h.at, "d")
	h.sees("d")
	if st := s.Stats(); st.Mappings != 5 {
		t.Errorf("counted %+v", st)
	}
}

// A session that opens mappings without end is slowed down.
func TestMappingRate(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{SessionMappings: 8})
	in, h := newInside(t, s), newHost(t, lo4)
	start := time.Now()
	for port := range uint16(2000) {
		in.send(1000+port, h.at, "x")
	}
	most := createsPerSecond + int(createsPerSecond*time.Since(start).Seconds()) + 1
	if st := s.Stats(); int(st.MappingsOpened) > most || st.Mappings != 8 || st.MappingsOpened+st.MappingsRefused != 2000 {
		t.Errorf("counted %+v, want at most %d opened", st, most)
	}
}

func TestMappingTimeout(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	k := in.sink.(*sink)
	pass := func(d time.Duration) { s.skew.Add(int64(d)); k.sweep() }
	left := func(want int) {
		t.Helper()
		if n := s.Stats().Mappings; n != want {
			t.Errorf("%d mappings, want %d", n, want)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if (k.sweeper != nil) != (want > 0) {
			t.Errorf("sweeper is armed: %v", k.sweeper != nil)
		}
	}
	in.send(4000, h.at, "1")
	first := h.sees("1")
	pass(2*time.Minute - time.Second)
	left(1)
	in.send(4000, h.at, "2") // what leaves keeps it
	if from := h.sees("2"); from != first {
		t.Errorf("seen as %v, want %v", from, first)
	}
	pass(2*time.Minute - time.Second)
	left(1)
	h.send("3", first) // what comes does not
	in.recvUDP()
	pass(time.Second)
	left(0)
	h.send("too late", first)
	in.send(4000, h.at, "4")
	if from := h.sees("4"); from == first {
		t.Error("the same port again")
	}
	in.nothing()
	left(1)
	pass(2 * time.Minute)
	left(0)
}

func TestDNSTimeout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		out, in   int
		elsewhere bool
		timeout   time.Duration
	}{
		{"question and answer", 1, 1, false, 30 * time.Second},
		{"question without answer", 1, 0, false, 30 * time.Second},
		{"asked twice", 2, 1, false, 2 * time.Minute},
		{"two answers", 1, 2, false, 2 * time.Minute},
		{"also somewhere else", 1, 1, true, 2 * time.Minute},
	}
	for _, tt := range tests {
		m := &mapping{k: &sink{s: &Sockets{cfg: Config{MappingTimeout: 2 * time.Minute}}}}
		m.outs, m.dnsOnly = uint32(tt.out), !tt.elsewhere
		m.ins.Store(uint32(tt.in))
		if got := m.timeoutLocked(); got != tt.timeout {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.timeout)
		}
	}
	// And on real sockets, whether port 53 is meant being judged by out. Nothing needs to answer.
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	k := in.sink.(*sink)
	in.send(4001, h.at, "x") // for which the sweeper has longer
	in.send(4000, netip.AddrPortFrom(lo4, 53), "question")
	k.mu.Lock()
	if due := k.sweepAt - s.clock(); due > dnsTimeout || due < dnsTimeout-5*time.Second {
		t.Errorf("swept in %v", due)
	}
	k.mu.Unlock()
	s.skew.Add(int64(dnsTimeout))
	k.sweep()
	if st := s.Stats(); st.Mappings != 1 || st.MappingsOpened != 2 {
		t.Errorf("counted %+v", st)
	}
}

// The sweeper comes by itself.
func TestSweeperRuns(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{MappingTimeout: 20 * time.Millisecond})
	in, h := newInside(t, s), newHost(t, lo4)
	in.send(4000, h.at, "x")
	mapped := h.sees("x")
	for deadline := time.Now().Add(5 * time.Second); s.Stats().Mappings != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the mapping is still there")
		}
		time.Sleep(5 * time.Millisecond)
	}
	free(t, mapped)
}

// free waits until nobody has the port at: a socket closes when the last who uses it is done.
func free(t testing.TB, at netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still taken: %v", err)
		}
	}
}

func TestSinkClose(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	in.send(4000, h.at, "x")
	mapped := h.sees("x")
	for range 2 {
		if err := in.sink.Close(); err != nil {
			t.Error(err)
		}
	}
	k := in.sink.(*sink)
	s.mu.Lock()
	if len(k.open) != 0 || len(s.sinks) != 0 || k.sweeper != nil {
		t.Errorf("left: %d mappings, %d sinks, sweeper %v", len(k.open), len(s.sinks), k.sweeper != nil)
	}
	s.mu.Unlock()
	free(t, mapped)
	in.send(4000, h.at, "late")
	in.send(4000, netip.MustParseAddrPort("10.0.0.1:1"), "late")
	in.nothing()
	if n := s.Stats().Mappings; n != 0 {
		t.Errorf("%d mappings", n)
	}
	_ = s.Close()
	after := newInside(t, s)
	after.send(4000, h.at, "later still")
	if n := s.Stats().Mappings; n != 0 {
		t.Errorf("%d mappings after the end", n)
	}
}

// Sessions come and go while packets go both ways: for the race detector.
func TestSinksConcurrently(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{SessionMappings: 4, MappingTimeout: 5 * time.Millisecond, FilterByAddress: true})
	h := newHost(t, lo4)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 100)
		for {
			n, from, err := h.ReadFromUDPAddrPort(b)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				return
			}
			_, _ = h.WriteToUDPAddrPort(b[:n], from)
		}
	})
	var sessions sync.WaitGroup
	for range 4 {
		sessions.Go(func() {
			for range 10 {
				in := newInside(t, s)
				for i := range uint16(50) {
					in.send(4000+i%6, h.at, "x")
				}
				time.Sleep(time.Millisecond)
				in.sink.Close()
			}
		})
	}
	sessions.Wait()
	h.Close()
	wg.Wait()
	if n := s.Stats().Mappings; n != 0 {
		t.Errorf("%d mappings", n)
	}
}

// Silent mappings are small: what they wait with is not a buffer.
func TestIdleMappingsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("opens hundreds of sockets")
	}
	const n = 400
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	size := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := size()
	for port := range uint16(n) {
		in.send(1000+port, h.at, "x")
		_, from := h.recv()
		h.send("y", from)
		in.recv()
	}
	if st := s.Stats(); st.Mappings != n {
		t.Fatalf("%d mappings", st.Mappings)
	}
	each := (int64(size()) - int64(before)) / n
	t.Logf("%d bytes each", each)
	if limit := int64(16 << 10); each > limit {
		t.Errorf("%d bytes each, want at most %d", each, limit)
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
