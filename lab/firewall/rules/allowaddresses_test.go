package rules

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// icmp6 is an ICMPv6 packet of a type.
func icmp6(t *testing.T, kind uint8, outbound bool, src, dst string) []firewalltest.Frame {
	t.Helper()
	eth := layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv6}
	ip := layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: netip.MustParseAddr(src).AsSlice(),
		DstIP: netip.MustParseAddr(dst).AsSlice()}
	icmp := layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	_ = icmp.SetNetworkLayerForChecksum(&ip)
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, &eth, &ip, &icmp,
		gopacket.Payload(make([]byte, 20))); err != nil {
		t.Fatal(err)
	}
	return []firewalltest.Frame{{Outbound: outbound, Data: buf.Bytes()}}
}

func TestAllowAddresses(t *testing.T) {
	t.Parallel()
	nets := func(list ...string) (n Nets) {
		for _, p := range list {
			n = append(n, Net{Prefix: netip.MustParsePrefix(p)})
		}
		return n
	}
	shutdown := func(set func(*AllowAddresses)) *AllowAddresses {
		r := &AllowAddresses{Nets: nets("198.51.100.80/32"), Resolvers: nets("198.51.100.53/32")}
		if set != nil {
			set(r)
		}
		return r
	}
	pass := func(t *testing.T, r *AllowAddresses, frames []firewalltest.Frame) firewalltest.Result {
		return firewalltest.Pass(newBox(t, firewall.InPath, Set{AllowAddresses: []*AllowAddresses{r}}), frames)
	}
	conn := func(proto uint8, client, server string, texts ...string) []firewalltest.Frame {
		return firewalltest.Conn(t, proto, client, server, 0, texts...)
	}
	good, bad := ">"+hello(t, "www.good.example"), ">"+hello(t, "bad.example")
	named := func(r *AllowAddresses) { r.Names = Names{"good.example"} }
	only := func(r *AllowAddresses) { r.Names, r.OnlyTLS = Names{"good.example"}, true }
	early := func(r *AllowAddresses) { r.PassEmpty = true }
	const client, allowed, other = "192.0.2.1:40000", "198.51.100.80:443", "203.0.113.1:443"
	for _, c := range []struct {
		name   string
		set    func(*AllowAddresses)
		frames []firewalltest.Frame
		passed int
	}{
		{"allowed", nil, conn(firewall.TCP, client, allowed, good, "<x"), 5},
		{"not allowed", nil, conn(firewall.TCP, client, other, good, "<x"), 0},
		{"UDP, allowed", nil, conn(firewall.UDP, client, allowed, ">x", "<x"), 2},
		{"UDP, not allowed", nil, conn(firewall.UDP, client, other, ">x", "<x"), 0},
		{"a resolver", nil, conn(firewall.UDP, client, "198.51.100.53:53", ">x", "<x"), 2},
		{"a resolver over TCP", nil, conn(firewall.TCP, client, "198.51.100.53:53", ">x", "<x"), 0},
		{"a resolver at another port", nil, conn(firewall.UDP, client, "198.51.100.53:443", ">x", "<x"), 0},
		{"another resolver", nil, conn(firewall.UDP, client, "203.0.113.53:53", ">x", "<x"), 0},
		{"the name allowed", named, conn(firewall.TCP, client, allowed, good, "<x"), 5},
		{"the name in two segments", named, conn(firewall.TCP, client, allowed, good[:50], ">"+good[50:], "<x"), 6},
		{"another name", named, conn(firewall.TCP, client, allowed, bad, "<x", bad), 3},
		{"no TLS", named, conn(firewall.TCP, client, allowed, ">SSH-2.0-x", "<x"), 5},
		{"only TLS", only, conn(firewall.TCP, client, allowed, ">SSH-2.0-x", "<x"), 3},
		{"only TLS, and it is", only, conn(firewall.TCP, client, allowed, good, "<x"), 5},
		{"the early form", early, conn(firewall.TCP, client, other, good, good), 3},
		{"IPv6", nil, conn(firewall.TCP, "[2001:db8::1]:40000", "[2001:db8:1::1]:443", good, "<x"), 0},
		{"ping", nil, icmp6(t, 128, true, "2001:db8::1", "2001:db8:1::1"), 0},
		{"ping an allowed", func(r *AllowAddresses) { r.Nets = nets("2001:db8:1::/48") }, icmp6(t, 128, true, "2001:db8::1", "2001:db8:1::1"), 0},
		{"ping where it may be", func(r *AllowAddresses) { r.Nets, r.ICMP = nets("2001:db8:1::/48"), true },
			icmp6(t, 128, true, "2001:db8::1", "2001:db8:1::1"), 1},
		{"a neighbour is sought", nil, icmp6(t, 135, true, "2001:db8::1", "ff02::1:ff00:1"), 1},
		{"a neighbour answers", nil, icmp6(t, 136, false, "2001:db8::2", "2001:db8::1"), 1},
		{"a router speaks", nil, icmp6(t, 134, false, "fe80::1", "ff02::1"), 1},
	} {
		res := pass(t, shutdown(c.set), c.frames)
		if res.Passed != c.passed || len(res.Forged) > 0 {
			t.Errorf("%s: %d passed, want %d", c.name, res.Passed, c.passed)
		}
		if len(res.Events) > 1 {
			t.Errorf("%s: %d events for one connection", c.name, len(res.Events))
		}
	}
	t.Run("from outside", func(t *testing.T) {
		frames := conn(firewall.TCP, "203.0.113.1:40000", "192.0.2.1:443", good, "<x")
		for i := range frames {
			frames[i].Outbound = !frames[i].Outbound
		}
		if res := pass(t, shutdown(nil), frames); res.Passed != 0 {
			t.Errorf("%d passed", res.Passed)
		}
	})
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, name := range []string{"trojan", "wireguard", "openvpn-udp", "ikev2", "hysteria2", "shadowsocks", "ssh"} {
				box := newBox(t, firewall.InPath, Set{AllowAddresses: []*AllowAddresses{shutdown(nil)}}, withSeed(seed))
				if res := firewalltest.Pass(box, recorded(t, name)); res.Passed != 0 {
					t.Errorf("%s: %d passed", name, res.Passed)
				}
			}
			for _, name := range []string{"chromium-https-allowed", "direct-https-allowed", "quic-allowed", "http-allowed", "dns"} {
				rule := shutdown(func(r *AllowAddresses) { r.Names = Names{"allowed.example"} })
				box := newBox(t, firewall.InPath, Set{AllowAddresses: []*AllowAddresses{rule}}, withSeed(seed))
				if res := firewalltest.Pass(box, recorded(t, name)); len(res.Dropped) > 0 {
					t.Errorf("%s: %d dropped: %v", name, len(res.Dropped), res.Events)
				}
			}
			rule := shutdown(func(r *AllowAddresses) { r.Names = Names{"allowed.example"} })
			box := newBox(t, firewall.InPath, Set{AllowAddresses: []*AllowAddresses{rule}}, withSeed(seed))
			for _, name := range []string{"chromium-https-banned", "quic-banned"} {
				if res := firewalltest.Pass(box, recorded(t, name)); len(res.Dropped) == 0 {
					t.Errorf("%s passed", name)
				}
			}
		})
	})
}
