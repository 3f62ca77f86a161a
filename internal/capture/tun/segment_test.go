package tun

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// syn is a first segment with options.
func syn(t testing.TB, options ...byte) (segment, Frame) {
	t.Helper()
	b, err := packet.AppendTCP(nil, netip.MustParseAddrPort("198.18.66.1:5000"), netip.MustParseAddrPort("203.0.113.5:80"), 1, 0, flagSYN)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, options...)
	b[3] += byte(len(options))
	b[20+12] += byte(len(options)) / 4 << 4
	s, ok := parseSegment(b)
	if !ok {
		t.Fatalf("%x", b)
	}
	return s, Frame{Packet: b}
}

// Of our socket's options the application hears of those that it has offered, and the checksum stays as right as it was.
func TestKeepOptions(t *testing.T) {
	offers, offered := syn(t, 2, 4, 5, 0xb4, 4, 2, 1, 1)
	for name, v := range map[string]struct{ has, keeps []byte }{
		"Linux's": {
			has:   []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7},
			keeps: []byte{2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		},
		"what follows the end": {has: []byte{3, 3, 7, 0, 3, 3, 7, 0}, keeps: []byte{1, 1, 1, 0, 3, 3, 7, 0}},
		"too short":            {has: []byte{3, 3, 7, 8, 1, 3, 3, 7}, keeps: []byte{1, 1, 1, 8, 1, 3, 3, 7}},
		"too long":             {has: []byte{3, 3, 7, 8, 100, 3, 3, 7}, keeps: []byte{1, 1, 1, 8, 100, 3, 3, 7}},
		"half of one":          {has: []byte{1, 1, 1, 8}, keeps: []byte{1, 1, 1, 8}},
		"none":                 {},
	} {
		s, f := syn(t, v.has...)
		before := packet.WordSum(f.Packet[s.at:]) % 0xffff
		s.keepOptions(f, offers.options(offered.Packet))
		if got := f.Packet[s.at+tcpHeader:]; !bytes.Equal(got, v.keeps) {
			t.Errorf("%s: %d, and it should be %d", name, got, v.keeps)
		}
		if after := packet.WordSum(f.Packet[s.at:]) % 0xffff; after != before {
			t.Errorf("%s: the words' sum was %x and is %x", name, before, after)
		}
	}
}
