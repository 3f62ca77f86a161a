package rules

import (
	"net/netip"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestFreeze(t *testing.T) {
	t.Parallel()
	hosters := Nets{{Prefix: netip.MustParsePrefix("203.0.113.0/24")}, {Prefix: netip.MustParsePrefix("198.51.100.0/24")}}
	rule := func() *Freeze {
		return &Freeze{To: hosters, ExceptNames: Names{"spared.example", "banned.example"}, ExceptSSH: true, Outbound: true,
			ExceptTo: Nets{{Prefix: netip.MustParsePrefix("203.0.113.64/26")}}, Then: Then{Block: scope(firewall.Connection)}}
	}
	pass := func(t *testing.T, r *Freeze, seed uint64, frames []firewalltest.Frame) firewalltest.Result {
		return firewalltest.Pass(newBox(t, firewall.InPath, Set{Freeze: []*Freeze{r}}, withSeed(seed)), frames)
	}
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, c := range []struct {
				capture string
				frozen  bool
			}{
				{"godwit", true}, {"trojan", true}, {"vmess", true}, {"openvpn-udp", true}, {"openvpn-tcp", true}, {"wireguard", true}, {"hysteria2", true},
				{"chromium-https-allowed", true}, {"direct-https-allowed", true}, {"http-allowed", true},
				{"ssh", false}, {"dns", false}, // SSH is spared, DNS is short
				{"quic-allowed", true},
				{"chromium-https-banned", false}, {"direct-https-banned", false}, {"quic-banned", false}, // the name is spared
			} {
				res := pass(t, rule(), seed, recorded(t, c.capture))
				if frozen := len(res.Dropped) > 0; frozen != c.frozen || len(res.Forged) > 0 {
					t.Errorf("%s: frozen %v, want %v, of %d packets; fired %v", c.capture, frozen, c.frozen, res.Passed, res.Fired())
				}
			}
		})
	})
	t.Run("crafted", func(t *testing.T) {
		for _, c := range []struct {
			name         string
			proto        uint8
			client, to   string
			texts        []string
			passed, lost int
		}{
			// Three packets of the handshake count.
			{"two bytes at a time", firewall.TCP, "192.0.2.1:40000", "203.0.113.1:5555", talk(32, 2), 25, 10},
			{"UDP", firewall.UDP, "192.0.2.1:40000", "203.0.113.1:5555", talk(32, 100), 25, 7},
			{"an address that is spared", firewall.TCP, "192.0.2.1:40000", "203.0.113.65:443", talk(32, 2), 35, 0},
			{"somewhere else", firewall.TCP, "192.0.2.1:40000", "192.0.2.200:443", talk(32, 2), 35, 0},
			{"a name that is spared", firewall.TCP, "192.0.2.1:40000", "203.0.113.1:443", append([]string{">" + hello(t, "spared.example")}, talk(31, 9)...), 35, 0},
			{"another name", firewall.TCP, "192.0.2.1:40000", "203.0.113.1:443", append([]string{">" + hello(t, "other.example")}, talk(31, 9)...), 25, 10},
			{"SSH, the server first", firewall.TCP, "192.0.2.1:40000", "203.0.113.1:22", append([]string{"<SSH-2.0-OpenSSH_10\r\n"}, talk(31, 9)...), 35, 0},
			{"few packets", firewall.TCP, "192.0.2.1:40000", "203.0.113.1:443", talk(22, 1400), 25, 0},
		} {
			res := pass(t, rule(), 1, firewalltest.Conn(t, c.proto, c.client, c.to, 0, c.texts...))
			if res.Passed != c.passed || len(res.Dropped) != c.lost {
				t.Errorf("%s: %d passed, %d dropped, want %d and %d", c.name, res.Passed, len(res.Dropped), c.passed, c.lost)
			}
		}
	})
	t.Run("UDP alone", func(t *testing.T) {
		r := rule()
		r.NoTCP = true
		if res := pass(t, r, 1, recorded(t, "trojan")); len(res.Dropped) > 0 {
			t.Errorf("TCP frozen: %v", res.Fired())
		}
		if res := pass(t, r, 1, recorded(t, "hysteria2")); len(res.Dropped) == 0 {
			t.Error("UDP not frozen")
		}
	})
}
