package packet

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

func mustParse(t testing.TB, b []byte) Packet {
	t.Helper()
	p, err := Parse(b)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return p
}

func mustICMP(t testing.TB, b []byte) ICMP {
	t.Helper()
	p := mustParse(t, b)
	m, err := p.ICMP()
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return m
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ src, dst netip.Addr }{{a4, b4}, {a6, b6}} {
		for _, reply := range []bool{false, true} {
			b, err := AppendEcho(nil, reply, tt.src, tt.dst, 0x1234, 7, []byte("ping!"))
			if err != nil {
				t.Fatal(err)
			}
			m := mustICMP(t, b)
			want := EchoRequest
			if reply {
				want = EchoReply
			}
			if m.Kind != want || m.ID != 0x1234 || m.Seq != 7 || string(m.Body) != "ping!" {
				t.Errorf("%v reply=%v: got %+v", tt.src, reply, m)
			}
			if _, err := m.Quoted(); !errors.Is(err, ErrProtocol) {
				t.Errorf("%v: an echo quotes nothing, got %v", tt.src, err)
			}
			for i := range b[len(b)-13:] { // every bit of the ICMP message is under its checksum
				b[len(b)-13+i] ^= 0x40
				p := mustParse(t, b)
				if _, err := p.ICMP(); !errors.Is(err, ErrChecksum) {
					t.Errorf("%v: byte %d changed: got %v", tt.src, i, err)
				}
				b[len(b)-13+i] ^= 0x40
			}
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		src, dst netip.Addr
		limit    int
	}{{a4, b4, 576}, {a6, b6, 1280}} {
		long := mustParse(t, mustUDP(t, at(tt.src, 4000), at(tt.dst, 443), string(make([]byte, 1400))))
		tiny := mustParse(t, mustUDP(t, at(tt.src, 4000), at(tt.dst, 443), ""))
		for _, why := range []Reason{NoRoute, Prohibited, NoHost, NoPort} {
			for _, about := range []*Packet{&long, &tiny} {
				b, ok := AppendUnreachable([]byte("x"), tt.dst, why, about)
				if !ok || b[0] != 'x' {
					t.Fatalf("%v: nothing appended", why)
				}
				b = b[1:]
				m := mustICMP(t, b)
				if m.Kind != Unreachable || m.Reason() != why {
					t.Errorf("%v: got %+v", why, m)
				}
				if want := min(tt.limit, len(about.whole)+len(b)-len(m.Body)); len(b) != want {
					t.Errorf("%v: %d bytes, want %d", why, len(b), want)
				}
				if !bytes.HasPrefix(about.whole, m.Body) {
					t.Errorf("%v: does not quote the packet", why)
				}
				q, err := m.Quoted()
				if err != nil || q != (Quote{ProtoUDP, at(tt.src, 4000), at(tt.dst, 443)}) {
					t.Errorf("%v: quoted %+v, %v", why, q, err)
				}
				if p := mustParse(t, b); p.Src != tt.dst || p.Dst != tt.src {
					t.Errorf("%v: from %v to %v", why, p.Src, p.Dst)
				}
			}
		}
		b, ok := AppendTooBig(nil, tt.dst, 1280, &long)
		if m := mustICMP(t, b); !ok || m.Kind != TooBig || m.MTU != 1280 {
			t.Errorf("too big: got %+v", m)
		}
	}
}

// Errors about errors multiply, and errors to more than one host are a flood.
func TestErrorsNotSent(t *testing.T) {
	t.Parallel()
	udp := func(src, dst string) []byte {
		return mustUDP(t, at(netip.MustParseAddr(src), 1), at(netip.MustParseAddr(dst), 2), "x")
	}
	plain4, plain6 := mustParse(t, udp("10.0.0.1", "10.0.0.2")), mustParse(t, udp("fd00::1", "fd00::2"))
	error4, _ := AppendUnreachable(nil, b4, NoPort, &plain4)
	error6, _ := AppendUnreachable(nil, b6, NoPort, &plain6)
	echo4, _ := AppendEcho(nil, false, a4, b4, 1, 1, nil)
	echo6, _ := AppendEcho(nil, true, a6, b6, 1, 1, nil)
	tests := []struct {
		name string
		in   []byte
		want bool
	}{
		{"udp", udp("10.0.0.1", "10.0.0.2"), true},
		{"udp6", udp("fd00::1", "fd00::2"), true},
		{"echo", echo4, true},
		{"echo6", echo6, true},
		{"error", error4, false},
		{"error6", error6, false},
		{"to multicast", udp("10.0.0.1", "224.0.0.251"), false},
		{"to multicast6", udp("fd00::1", "ff02::fb"), false},
		{"to broadcast", udp("10.0.0.1", "255.255.255.255"), false},
		{"from nobody", udp("0.0.0.0", "10.0.0.2"), false},
		{"from nobody6", udp("::", "fd00::2"), false},
		{"from multicast", udp("224.0.0.1", "10.0.0.2"), false},
	}
	for _, tt := range tests {
		p := mustParse(t, tt.in)
		from := b4
		if p.Src.Is6() {
			from = b6
		}
		b, ok := AppendUnreachable(nil, from, NoPort, &p)
		if ok != tt.want || !ok && len(b) != 0 {
			t.Errorf("%s: got %v and %d bytes, want %v", tt.name, ok, len(b), tt.want)
		}
	}
	if b, ok := AppendUnreachable([]byte("x"), b6, NoPort, &plain4); ok || string(b) != "x" {
		t.Errorf("an error of the other family: got %v, %q", ok, b)
	}
}

// A quote may be cut anywhere, and may be anything.
func TestQuotedRefuses(t *testing.T) {
	t.Parallel()
	p4 := mustParse(t, mustUDP(t, at(a4, 1), at(b4, 2), "x"))
	whole, _ := AppendUnreachable(nil, b4, NoPort, &p4)
	m := mustICMP(t, whole)
	for n := range m.Body {
		cut := m
		cut.Body = m.Body[:n]
		if _, err := cut.Quoted(); (err == nil) != (n >= 24) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	other := m
	other.Body = mustUDP(t, at(a6, 1), at(b6, 2), "x")
	if _, err := other.Quoted(); !errors.Is(err, ErrFamily) {
		t.Errorf("ipv6 quoted over ipv4: got %v", err)
	}
	other.Body = append([]byte{0x41}, m.Body[1:]...)
	if _, err := other.Quoted(); !errors.Is(err, ErrShort) {
		t.Errorf("quoted header of 4 bytes: got %v", err)
	}
}
