package packet

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A packet with other addresses is what it would be if it had been made with them, and so is what an error quotes.
func TestReaddress(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		src, dst, payload := random(r)
		src2, dst2, _ := random(r)
		for src2.Addr().Is4() != src.Addr().Is4() {
			src2, dst2, _ = random(r)
		}
		src2, dst2 = netip.AddrPortFrom(src2.Addr(), src.Port()), netip.AddrPortFrom(dst2.Addr(), dst.Port())
		udp := func(src, dst netip.AddrPort) []byte {
			b, err := AppendUDP(nil, src, dst, payload)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		echo := func(src, dst netip.AddrPort) []byte {
			b, err := AppendEcho(nil, false, src.Addr(), dst.Addr(), 1, 2, payload)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		tcp := func(src, dst netip.AddrPort) []byte {
			b, err := AppendTCP(nil, src, dst, 0, 5, 4)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for name, build := range map[string]func(src, dst netip.AddrPort) []byte{"udp": udp, "echo": echo, "tcp": tcp} {
			b := build(src, dst)
			p := mustParse(t, b)
			p.Readdress(src2.Addr(), dst2.Addr())
			if want := build(src2, dst2); string(b) != string(want) {
				t.Fatalf("%s from %v to %v, readdressed to %v and %v:\n%x\nand it should be\n%x", name, src, dst, src2, dst2, b, want)
			}
		}
		if !oneHost(src.Addr()) || !oneHost(dst.Addr()) || !oneHost(src2.Addr()) {
			continue
		}
		about, about2 := mustParse(t, udp(src, dst)), mustParse(t, udp(src2, dst))
		b, _ := AppendUnreachable(nil, dst.Addr(), NoPort, &about)
		want, _ := AppendUnreachable(nil, dst.Addr(), NoPort, &about2)
		p := mustParse(t, b)
		p.ReaddressQuote(src.Addr(), src2.Addr(), netip.Addr{})
		p.Readdress(netip.Addr{}, src2.Addr())
		if string(b) != string(want) {
			t.Fatalf("an error about %v to %v, for %v:\n%x\nand it should be\n%x", src, dst, src2, b, want)
		}
		about, about2 = mustParse(t, udp(dst, src)), mustParse(t, udp(dst, src2))
		b, _ = AppendUnreachable(nil, src.Addr(), NoPort, &about)
		want, _ = AppendUnreachable(nil, src2.Addr(), NoPort, &about2)
		p = mustParse(t, b)
		p.ReaddressQuotedDst(src.Addr(), src2.Addr())
		p.Readdress(src2.Addr(), netip.Addr{})
		if string(b) != string(want) {
			t.Fatalf("an error about %v to %v, from %v:\n%x\nand it should be\n%x", dst, src, src2, b, want)
		}
	}
}
