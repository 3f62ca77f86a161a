package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

var (
	a4 = netip.MustParseAddr("10.77.0.2")
	b4 = netip.MustParseAddr("198.51.100.9")
	a6 = netip.MustParseAddr("fd77::2")
	b6 = netip.MustParseAddr("2001:db8::9")
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func mustUDP(t testing.TB, src, dst netip.AddrPort, payload string) []byte {
	t.Helper()
	b, err := AppendUDP(nil, src, dst, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fix4 recomputes an IPv4 header's checksum after a test has changed it.
func fix4(b []byte) []byte {
	n := int(b[0]&15) * 4
	if n > len(b) {
		return b
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:n])))
	return b
}

// with6 puts extension headers, the first of which is kind, in front of an IPv6 packet's payload. The last one's next
// header is filled in.
func with6(b []byte, kind byte, headers ...[]byte) []byte {
	out := append([]byte(nil), b[:header6]...)
	next := b[6]
	out[6] = kind
	for i, h := range headers {
		h = append([]byte(nil), h...)
		if i == len(headers)-1 {
			h[0] = next
		}
		out = append(out, h...)
	}
	out = append(out, b[header6:]...)
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-header6))
	return out
}

// The bytes are spelled out once, worked by hand, so that building and reading cannot be wrong in the same way.
func TestKnownBytes(t *testing.T) {
	t.Parallel()
	got := mustUDP(t, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), "a")
	want := "\x45\x00\x00\x1d\x00\x00\x40\x00\x40\x11\x26\xce\x0a\x00\x00\x01\x0a\x00\x00\x02" +
		"\x00\x01\x00\x02\x00\x09\x8a\xd6a"
	if string(got) != want {
		t.Errorf("ipv4\n got %x\nwant %x", got, want)
	}
	got = mustUDP(t, netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2"), "a")
	want = "\x60\x00\x00\x00\x00\x09\x11\x40" +
		"\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x00\x01\x00\x02\x00\x09\xa4\xd4a"
	if string(got) != want {
		t.Errorf("ipv6\n got %x\nwant %x", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	v4 := func() []byte { return mustUDP(t, at(a4, 4000), at(b4, 53), "question") }
	v6 := func() []byte { return mustUDP(t, at(a6, 4000), at(b6, 53), "question") }
	pad := []byte{0, 0, 1, 4, 0, 0, 0, 0} // PadN of 4
	set := func(b []byte, i int, v ...byte) []byte { copy(b[i:], v); return b }
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"version 5", set(v4(), 0, 0x55), ErrVersion},
		{"version 0", make([]byte, 64), ErrVersion},
		{"ipv4 cut in its header", v4()[:19], ErrShort},
		{"ipv4 header of 16 bytes", fix4(set(v4(), 0, 0x44)), ErrLength},
		{"ipv4 header longer than the packet", fix4(set(v4(), 0, 0x4f))[:40], ErrLength},
		{"ipv4 cut", v4()[:30], ErrLength},
		{"ipv4 with a byte after it", append(v4(), 0), ErrLength},
		{"ipv4 header bit flipped", set(v4(), 8, 63), ErrChecksum},
		{"ipv4 first fragment", fix4(set(v4(), 6, 0x20, 0)), ErrFragment},
		{"ipv4 later fragment", fix4(set(v4(), 6, 0, 1)), ErrFragment},
		{"ipv4 last fragment at the top bit", fix4(set(v4(), 6, 0x10, 0)), ErrFragment},
		{"ipv6 cut in its header", v6()[:39], ErrShort},
		{"ipv6 cut", v6()[:50], ErrLength},
		{"ipv6 with a byte after it", append(v6(), 0), ErrLength},
		{"ipv6 jumbogram", set(v6(), 4, 0, 0), ErrLength},
		{"ipv6 to ::ffff:10.0.0.1", set(v6(), 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1), ErrFamily},
		{"ipv6 from ::ffff:10.0.0.1", set(v6(), 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1), ErrFamily},
		{"ipv6 atomic fragment", with6(v6(), extFragment, make([]byte, 8)), ErrFragment},
		{"ipv6 fragment behind options", with6(v6(), extDestination, set(append([]byte{}, pad...), 0, extFragment),
			make([]byte, 8)), ErrFragment},
		{"ipv6 routing header", with6(v6(), extRouting, make([]byte, 8)), ErrExtension},
		{"ipv6 authentication header", with6(v6(), extAuth, make([]byte, 8)), ErrExtension},
		{"ipv6 hop-by-hop second", with6(v6(), extDestination, set(append([]byte{}, pad...), 0, extHopByHop), pad),
			ErrExtension},
		{"ipv6 four options headers", with6(v6(), extDestination, set(append([]byte{}, pad...), 0, extDestination),
			set(append([]byte{}, pad...), 0, extDestination), set(append([]byte{}, pad...), 0, extDestination), pad),
			ErrExtension},
		{"ipv6 jumbo payload option", with6(v6(), extHopByHop, []byte{0, 0, 0xc2, 4, 0, 1, 0, 0}), ErrExtension},
		{"ipv6 option longer than its header", with6(v6(), extDestination, []byte{0, 0, 1, 5, 0, 0, 0, 0}), ErrLength},
		{"ipv6 option without its length", with6(v6(), extDestination, []byte{0, 0, 1, 3, 0, 0, 0, 1}), ErrLength},
		{"ipv6 options longer than the packet", with6(v6(), extDestination, set(append([]byte{}, pad...), 1, 200)),
			ErrLength},
	}
	for _, tt := range tests {
		_, err := Parse(tt.in)
		if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	v4 := mustUDP(t, at(a4, 4000), at(b4, 53), "question")
	opt := append(append(append([]byte{}, v4[:20]...), 7, 3, 4, 0), v4[20:]...) // record route, empty
	opt[0]++
	binary.BigEndian.PutUint16(opt[2:], uint16(len(opt)))
	v6 := mustUDP(t, at(a6, 4000), at(b6, 53), "question")
	tests := []struct {
		name     string
		in       []byte
		src, dst netip.Addr
	}{
		{"ipv4", v4, a4, b4},
		{"ipv4 with options", fix4(opt), a4, b4},
		{"ipv6", v6, a6, b6},
		{"ipv6 with a router alert", with6(v6, extHopByHop, []byte{0, 0, 5, 2, 0, 0, 1, 0}), a6, b6},
		{"ipv6 with pads", with6(v6, extDestination, []byte{0, 1, 0, 0, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), a6, b6},
		{"ipv6 with the most extensions", with6(v6, extHopByHop, []byte{extDestination, 0, 0, 0, 0, 0, 0, 0},
			[]byte{extDestination, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 8)), a6, b6},
	}
	for _, tt := range tests {
		p, err := Parse(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if p.Src != tt.src || p.Dst != tt.dst || p.Proto != ProtoUDP || p.HopLimit != 64 || !p.DontFragment {
			t.Errorf("%s: got %+v", tt.name, p)
		}
		u, err := p.UDP()
		if err != nil || string(u.Payload) != "question" || u.Src != at(tt.src, 4000) || u.Dst != at(tt.dst, 53) {
			t.Errorf("%s: got %+v, %v", tt.name, u, err)
		}
		src, dst, err := Addrs(tt.in)
		if err != nil || src != tt.src || dst != tt.dst {
			t.Errorf("%s: Addrs got %v, %v, %v", tt.name, src, dst, err)
		}
	}
}

func TestUDPRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		v6     bool
		change func(udp []byte)
		want   error
	}{
		{"length too small", false, func(b []byte) { b[5]-- }, ErrLength},
		{"length too large", true, func(b []byte) { b[5]++ }, ErrLength},
		{"payload bit flipped", false, func(b []byte) { b[9] ^= 1 }, ErrChecksum},
		{"payload bit flipped", true, func(b []byte) { b[9] ^= 1 }, ErrChecksum},
		{"port changed", true, func(b []byte) { b[1]++ }, ErrChecksum},
		{"no checksum over ipv4", false, func(b []byte) { b[6], b[7] = 0, 0 }, nil},
		{"no checksum over ipv6", true, func(b []byte) { b[6], b[7] = 0, 0 }, ErrChecksum},
	}
	for _, tt := range tests {
		b, n := mustUDP(t, at(a4, 1), at(b4, 2), "question"), header4
		if tt.v6 {
			b, n = mustUDP(t, at(a6, 1), at(b6, 2), "question"), header6
		}
		tt.change(b[n:])
		p, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.UDP(); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s (v6 %v): got %v, want %v", tt.name, tt.v6, err, tt.want)
		}
	}
	short, _ := appendHeader(nil, a4, b4, ProtoUDP, 7)
	p, err := Parse(append(short, 0, 1, 0, 2, 0, 7, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UDP(); !errors.Is(err, ErrShort) {
		t.Errorf("seven bytes: got %v", err)
	}
	if _, err := p.ICMP(); !errors.Is(err, ErrProtocol) {
		t.Errorf("udp read as icmp: got %v", err)
	}
}

// A checksum that comes out as zero is sent as 0xffff, because zero would say that there is none.
func TestUDPChecksumZero(t *testing.T) {
	t.Parallel()
	for i := range 1 << 16 {
		b := mustUDP(t, at(a6, 1), at(b6, 2), string([]byte{byte(i >> 8), byte(i)}))
		if binary.BigEndian.Uint16(b[header6+6:]) != 0xffff {
			continue
		}
		p, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.UDP(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("no payload gave the checksum 0xffff")
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	if _, err := AppendUDP(nil, at(a4, 1), at(b6, 1), nil); !errors.Is(err, ErrFamily) {
		t.Errorf("mixed families: got %v", err)
	}
	if _, err := AppendUDP(nil, netip.AddrPort{}, netip.AddrPort{}, nil); !errors.Is(err, ErrFamily) {
		t.Errorf("no addresses: got %v", err)
	}
	big := make([]byte, 65536)
	for _, a := range []netip.Addr{a4, a6} {
		kept, err := AppendUDP([]byte("kept"), at(a, 1), at(a, 2), big[:MaxUDPPayload(a)+1])
		if !errors.Is(err, ErrTooLong) || string(kept) != "kept" {
			t.Errorf("%v: one too long: got %d bytes, %v", a, len(kept), err)
		}
		b, err := AppendUDP(nil, at(a, 1), at(a, 2), big[:MaxUDPPayload(a)])
		if err != nil {
			t.Errorf("%v: the longest: %v", a, err)
		}
		if p, err := Parse(b); err != nil {
			t.Errorf("%v: the longest: %v", a, err)
		} else if _, err := p.UDP(); err != nil {
			t.Errorf("%v: the longest: %v", a, err)
		}
		if _, err := AppendEcho(nil, false, a, a, 1, 1, big); !errors.Is(err, ErrTooLong) {
			t.Errorf("%v: echo too long: got %v", a, err)
		}
		if err := PutUDP(make([]byte, UDPOverhead(a)-1), at(a, 1), at(a, 2)); !errors.Is(err, ErrShort) {
			t.Errorf("%v: no room: got %v", a, err)
		}
	}
}

func TestPutUDP(t *testing.T) {
	t.Parallel()
	mapped := netip.AddrFrom16(a4.As16())
	for _, tt := range []struct{ src, dst netip.Addr }{{a4, b4}, {a6, b6}, {mapped, b4}, {b4, mapped}} {
		src, dst := at(tt.src, 7), at(tt.dst, 9)
		n := UDPOverhead(tt.dst)
		b := append(make([]byte, n), "payload"...)
		for i := range n {
			b[i] = 0xaa
		}
		if err := PutUDP(b, src, dst); err != nil {
			t.Fatal(err)
		}
		if want := mustUDP(t, src, dst, "payload"); string(b) != string(want) {
			t.Errorf("%v to %v\n got %x\nwant %x", src, dst, b, want)
		}
	}
}

func TestAllowFragments(t *testing.T) {
	t.Parallel()
	b := mustUDP(t, at(a4, 7), at(b4, 9), "payload")
	AllowFragments(b, 0x1234)
	p, err := Parse(b)
	if err != nil || p.DontFragment || b[4] != 0x12 || b[5] != 0x34 {
		t.Errorf("%x: %v", b, err)
	}
	six := mustUDP(t, at(a6, 7), at(b6, 9), "payload")
	if AllowFragments(six, 0x1234); string(six) != string(mustUDP(t, at(a6, 7), at(b6, 9), "payload")) {
		t.Errorf("%x", six)
	}
}

func TestNoAllocation(t *testing.T) {
	payload := make([]byte, 1200)
	buf, errs := make([]byte, 0, 2048), make([]byte, 0, 2048)
	for _, tt := range []struct{ src, dst netip.Addr }{{a4, b4}, {a6, b6}} {
		n := testing.AllocsPerRun(100, func() {
			b, err := AppendUDP(buf, at(tt.src, 1), at(tt.dst, 2), payload)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.UDP(); err != nil {
				t.Fatal(err)
			}
			if _, ok := AppendUnreachable(errs, tt.dst, NoPort, &p); !ok {
				t.Fatal("no error built")
			}
			b[len(b)-1] ^= 1
			if _, err := p.UDP(); err == nil {
				t.Fatal("wrong checksum accepted")
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations", tt.src, n)
		}
	}
}

func BenchmarkBuildAndParse(b *testing.B) {
	payload := make([]byte, 1200)
	buf := make([]byte, 0, 2048)
	b.SetBytes(1200)
	for b.Loop() {
		pkt, _ := AppendUDP(buf, at(a6, 1), at(b6, 2), payload)
		p, _ := Parse(pkt)
		if _, err := p.UDP(); err != nil {
			b.Fatal(err)
		}
	}
}
