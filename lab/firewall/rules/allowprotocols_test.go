package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// iran2020 is the filter as it was measured.
func iran2020() *AllowProtocols {
	return &AllowProtocols{Ports: []int{53, 80, 443}, Allow: []string{"tls", "http", "dns"}, Most: 9, Then: Then{Drop: true,
		Block: scope(firewall.Connection), Way: firewall.ToServer, For: always(60 * time.Second), Extend: true}}
}

func TestAllowProtocols(t *testing.T) {
	t.Parallel()
	sixPackets := func() *AllowProtocols {
		return &AllowProtocols{Allow: []string{"tls", "http", "dns", "ssh", "quic"}, UDP: true, After: 6,
			Then: Then{Drop: true, Block: scope(firewall.Connection)}}
	}
	noReassembly := func(c *firewall.Config) { c.ReassembleTCP = false }
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, c := range []struct {
				capture string
				rule    *AllowProtocols
				fires   bool
			}{
				{"openvpn-tcp", sixPackets(), true}, {"shadowsocks", sixPackets(), true}, {"vmess", sixPackets(), true},
				{"obfs4", sixPackets(), true}, {"wireguard", sixPackets(), true}, {"openvpn-udp", sixPackets(), true}, {"ikev2", sixPackets(), true},
				{"trojan", sixPackets(), false}, {"godwit", sixPackets(), false}, {"hysteria2", sixPackets(), false},
				{"chromium-https-allowed", sixPackets(), false}, {"http-allowed", sixPackets(), false},
				{"direct-https-allowed", sixPackets(), false}, {"quic-allowed", sixPackets(), false},
				{"ssh", sixPackets(), false}, {"dns", sixPackets(), false},
				{"openvpn-tcp", iran2020(), false}, {"ssh", iran2020(), false}, {"wireguard", iran2020(), false}, // other ports
				{"trojan", iran2020(), false}, {"godwit", iran2020(), false}, {"chromium-https-allowed", iran2020(), false},
				{"http-allowed", iran2020(), false}, {"direct-https-allowed", iran2020(), false},
				{"quic-allowed", iran2020(), false}, {"dns", iran2020(), false},
			} {
				box := newBox(t, firewall.InPath, Set{AllowProtocols: []*AllowProtocols{c.rule}}, withSeed(seed), noReassembly)
				res := firewalltest.Pass(box, recorded(t, c.capture))
				if fired := len(res.Events) > 0; fired != c.fires || fired != (len(res.Dropped) > 0) {
					t.Errorf("%s: fired %v, %d dropped, want %v", c.capture, res.Events, len(res.Dropped), c.fires)
				}
			}
		})
	})
	junk := strings.Repeat("\xd7", 40)
	tls := hello(t, "allowed.example")
	query := "\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01"
	t.Run("crafted", func(t *testing.T) {
		for _, c := range []struct {
			name, server string
			texts        []string
			dropped      int
		}{
			{"junk", "198.51.100.1:443", []string{">" + junk, "<x", ">" + junk, "<x", ">" + junk, "<x"}, 2},
			{"junk once", "198.51.100.1:443", []string{">" + junk, "<x", "<x", "<x"}, 0},
			{"junk at another port", "198.51.100.1:8443", []string{">" + junk, ">" + junk, ">" + junk}, 0},
			{"TLS at port 80", "198.51.100.1:80", []string{">" + tls, "<x", ">" + junk, ">" + junk}, 0},
			{"HTTP at port 53", "198.51.100.1:53", []string{">GET / HTTP/1.1\r\n\r\n", "<x", ">" + junk, ">" + junk}, 0},
			{"DNS at port 443", "198.51.100.1:443", []string{">" + query, "<x", ">" + junk, ">" + junk}, 0},
			{"TLS in two segments", "198.51.100.1:443", []string{">" + tls[:3], ">" + tls[3:], ">" + junk}, 0},
			{"TLS in three segments", "198.51.100.1:443", []string{">" + tls[:2], ">" + tls[2:4], ">" + tls[4:]}, 2},
			{"TLS after junk", "198.51.100.1:443", []string{">" + junk, ">" + tls, ">" + junk}, 2},
			{"a verb too short", "198.51.100.1:80", []string{">GET", ">x", ">y"}, 2},
			{"no verb", "198.51.100.1:80", []string{">get / HTTP/1.1", ">x", ">y"}, 2},
		} {
			box := newBox(t, firewall.InPath, Set{AllowProtocols: []*AllowProtocols{iran2020()}}, noReassembly)
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", c.server, 0, c.texts...))
			if len(res.Dropped) != c.dropped {
				t.Errorf("%s: dropped %v, want %d", c.name, res.Dropped, c.dropped)
			}
		}
	})
	t.Run("a minute, begun anew", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{AllowProtocols: []*AllowProtocols{iran2020()}}, noReassembly)
		frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:443", 0, ">"+junk, ">"+junk, ">"+junk, ">"+junk, ">"+junk)
		frames[5].At, frames[6].At, frames[7].At = 59*time.Second, 118*time.Second, 179*time.Second
		if res := firewalltest.Pass(box, frames); len(res.Dropped) != 3 || res.Passed != 5 {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
	t.Run("nine packets before", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{AllowProtocols: []*AllowProtocols{iran2020()}}, noReassembly)
		texts := []string{}
		for range 10 { // acknowledgements of an end that says nothing
			texts = append(texts, ">")
		}
		texts = append(texts, ">"+junk, ">"+junk, ">"+junk)
		if res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:443", 0, texts...)); len(res.Dropped) > 0 {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
	t.Run("six packets", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{AllowProtocols: []*AllowProtocols{sixPackets()}})
		res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, "192.0.2.1:40000", "198.51.100.1:443", 0, talk(12, 40)...))
		if res.Passed != 6 || len(res.Dropped) != 6 {
			t.Errorf("%d passed, %d dropped", res.Passed, len(res.Dropped))
		}
	})
}
