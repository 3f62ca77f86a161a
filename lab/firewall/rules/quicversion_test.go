package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestQUICVersion(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	set := func() Set {
		return Set{QUICVersion: []*QUICVersion{{Ports: []int{443}, Least: 1001, Except: nets("198.51.100.128/25"), Outbound: true,
			Then: Then{Drop: true, Block: scope(firewall.Connection)}}}}
	}
	datagram := func(version string, size int) string {
		return "\xc0" + version + strings.Repeat("x", size-1-len(version))
	}
	for _, c := range []struct {
		name, server string
		texts        []string
		dropped      []int
	}{
		{"version 1", server, []string{">" + datagram("\x00\x00\x00\x01", 1001), "<x", ">x"}, []int{0, 1, 2}},
		{"a byte less", server, []string{">" + datagram("\x00\x00\x00\x01", 1000), ">x"}, nil},
		{"version 2", server, []string{">" + datagram("\x6b\x33\x43\xcf", 1200), ">x"}, nil},
		{"another port", "198.51.100.1:8443", []string{">" + datagram("\x00\x00\x00\x01", 1200), ">x"}, nil},
		{"spared", "198.51.100.200:443", []string{">" + datagram("\x00\x00\x00\x01", 1200), ">x"}, nil},
		{"said by the server", server, []string{">x", "<" + datagram("\x00\x00\x00\x01", 1200)}, nil},
		{"something before it", server, []string{">x", ">" + datagram("\x00\x00\x00\x01", 1200), ">x"}, []int{1, 2}},
		{"four bytes", server, []string{">\x00\x00\x00\x01"}, nil},
	} {
		res := firewalltest.Pass(newBox(t, firewall.InPath, set()), firewalltest.Conn(t, firewall.UDP, client, c.server, 0, c.texts...))
		if !slices.Equal(res.Dropped, c.dropped) || (len(res.Events) == 1) != (len(c.dropped) > 0) {
			t.Errorf("%s: dropped %v, want %v; fired %v", c.name, res.Dropped, c.dropped, res.Fired())
		}
	}
	for _, capture := range []string{"quic-allowed", "quic-initial-banned", "hysteria2"} {
		frames := recorded(t, capture)
		for seed := uint64(1); seed <= 20; seed++ {
			if res := firewalltest.Pass(newBox(t, firewall.InPath, set(), withSeed(seed)), frames); len(res.Dropped) < len(frames)/2 {
				t.Errorf("%s: dropped %d of %d", capture, len(res.Dropped), len(frames))
			}
		}
	}
	// All that is ordinary but QUIC, which is what this rule costs.
	for _, capture := range []string{"chromium-https-allowed", "direct-https-allowed", "http-allowed", "ssh", "dns", "wireguard", "openvpn-udp", "ikev2"} {
		for seed := uint64(1); seed <= 20; seed++ {
			if res := firewalltest.Pass(newBox(t, firewall.InPath, set(), withSeed(seed)), recorded(t, capture)); len(res.Events) > 0 || len(res.Dropped) > 0 {
				t.Errorf("%s: fired %v, dropped %v", capture, res.Fired(), res.Dropped)
			}
		}
	}
	wantField(t, firewall.InPath, Set{QUICVersion: []*QUICVersion{{Least: -1, Then: Then{Drop: true}}}}, "least")
	wantField(t, firewall.InPath, Set{QUICVersion: []*QUICVersion{{}}}, "then")
}
