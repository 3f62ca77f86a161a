package rules

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestUDPPolice(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	pass := func(t *testing.T, seed uint64, r *UDPPolice, frames []firewalltest.Frame) firewalltest.Result {
		return firewalltest.Pass(newBox(t, firewall.InPath, Set{UDPPolice: []*UDPPolice{r}}, withSeed(seed)), frames)
	}
	t.Run("loss", func(t *testing.T) {
		frames := firewalltest.Conn(t, firewall.UDP, client, server, 0, talk(2000, 100)...)
		seeds(t, func(t *testing.T, seed uint64) {
			res := pass(t, seed, &UDPPolice{Loss: 0.5, Way: firewall.ToServer}, frames)
			if n := len(res.Dropped); n < 421 || n > 579 { // 500 of the client's 1000, five sigma
				t.Errorf("%d dropped", n)
			}
			for _, i := range res.Dropped {
				if !frames[i].Outbound {
					t.Fatal("the server's is dropped")
				}
			}
			if len(res.Events) != 1 {
				t.Errorf("%d events", len(res.Events))
			}
		})
	})
	t.Run("rate", func(t *testing.T) {
		var texts []string
		for range 10_000 { // 10 s of 1000 bytes a millisecond
			texts = append(texts, talk(1, 972)...)
		}
		res := pass(t, 1, &UDPPolice{Rate: 1_000_000, After: Dur(5 * time.Second), Way: firewall.ToServer},
			firewalltest.Conn(t, firewall.UDP, client, server, 0, texts...))
		if res.Passed < 5000+625 || res.Passed > 5000+640 { // 5 s of all, 5 s of 125 packets, 12 at once
			t.Errorf("%d passed", res.Passed)
		}
	})
	t.Run("marked", func(t *testing.T) {
		rule := &UDPPolice{Heavy: 1_000_000, Wait: always(2 * time.Hour), For: always(24 * time.Hour)}
		box := newBox(t, firewall.InPath, Set{UDPPolice: []*UDPPolice{rule}})
		for i := range 5 {
			firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, client, server, time.Duration(i)*time.Hour, talk(200, 1000)...))
		}
		if n := len(box.Events()); n != 1 {
			t.Fatalf("marked %d times", n)
		}
		for _, c := range []struct {
			name           string
			proto          uint8
			client, server string
			after          time.Duration
			outside        bool // the client is
			dropped        int
		}{
			{"before", firewall.UDP, client, server, 5 * time.Hour, false, 0},
			{"then", firewall.UDP, client, server, 7 * time.Hour, false, 2},
			{"another port", firewall.UDP, client, "198.51.100.1:9000", 7 * time.Hour, false, 2},
			{"another client", firewall.UDP, "192.0.2.2:40000", server, 7 * time.Hour, false, 2},
			{"from there", firewall.UDP, "198.51.100.1:40000", "192.0.2.2:9000", 7 * time.Hour, true, 2},
			{"TCP", firewall.TCP, client, server, 7 * time.Hour, false, 0},
			{"another address", firewall.UDP, client, "198.51.100.2:443", 7 * time.Hour, false, 0},
			{"afterwards", firewall.UDP, client, server, 31 * time.Hour, false, 0},
		} {
			frames := firewalltest.Conn(t, c.proto, c.client, c.server, c.after, ">x", "<x", ">x", "<x")
			if c.outside {
				for i := range frames {
					frames[i].Outbound = !frames[i].Outbound
				}
			}
			if res := firewalltest.Pass(box, frames); len(res.Dropped) != c.dropped {
				t.Errorf("%s: dropped %v, want %d", c.name, res.Dropped, c.dropped)
			}
		}
	})
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, name := range []string{"wireguard", "openvpn-udp", "hysteria2"} {
				if res := pass(t, seed, &UDPPolice{Loss: 0.5}, recorded(t, name)); len(res.Dropped) < 10 {
					t.Errorf("%s: %d dropped", name, len(res.Dropped))
				}
			}
			for _, name := range []string{"chromium-https-allowed", "direct-https-allowed", "ssh", "trojan", "godwit"} {
				if res := pass(t, seed, &UDPPolice{Loss: 0.5, Rate: 1000, Heavy: 1}, recorded(t, name)); len(res.Dropped) > 0 {
					t.Errorf("%s is TCP: %d dropped", name, len(res.Dropped))
				}
			}
			for _, name := range []string{"dns", "quic-allowed"} { // short
				if res := pass(t, seed, &UDPPolice{Rate: 1_000_000, After: Dur(5 * time.Second), Heavy: 1e9}, recorded(t, name)); len(res.Dropped) > 0 {
					t.Errorf("%s: %d dropped", name, len(res.Dropped))
				}
			}
		})
	})
}
