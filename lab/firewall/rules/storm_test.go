package rules

import (
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestStorm(t *testing.T) {
	t.Parallel()
	rule := &Storm{Start: Dur(time.Hour)}
	seeds(t, func(t *testing.T, seed uint64) {
		for _, c := range []struct {
			name, server string
			at           time.Duration
			outside      bool
			forged       int
		}{
			{"in the storm", "198.51.100.1:443", 90 * time.Minute, false, 6},
			{"before", "198.51.100.1:443", 59 * time.Minute, false, 0},
			{"its last minute", "198.51.100.1:443", (60+74)*time.Minute - time.Second, false, 6},
			{"after", "198.51.100.1:443", (60 + 74) * time.Minute, false, 0},
			{"port 80", "198.51.100.1:80", 90 * time.Minute, false, 0},
			{"port 8443", "198.51.100.1:8443", 90 * time.Minute, false, 0},
			{"from outside", "198.51.100.1:443", 90 * time.Minute, true, 3},
		} {
			box := newBox(t, firewall.OnPath, Set{Storm: []*Storm{rule}}, withSeed(seed))
			frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", c.server, c.at, ">hello", "<hello")
			for i := range frames {
				frames[i].Outbound = frames[i].Outbound != c.outside
			}
			res := firewalltest.Pass(box, frames)
			if len(res.Forged) != c.forged || len(res.Dropped) > 0 {
				t.Errorf("%s: %d forged, want %d", c.name, len(res.Forged), c.forged)
				continue
			}
			for i, f := range res.Forged {
				tcp, _ := f.Packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
				ip, _ := f.Packet.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
				if tcp == nil || ip == nil || !tcp.RST || !tcp.ACK || tcp.Ack != 1001 || f.Outbound != c.outside {
					t.Fatalf("%s: %v", c.name, f.Packet)
				}
				if i%3 > 0 {
					before := res.Forged[i-1].Packet
					if tcp.Window != before.Layer(layers.LayerTypeTCP).(*layers.TCP).Window+1 || ip.TTL != before.Layer(layers.LayerTypeIPv4).(*layers.IPv4).TTL+1 {
						t.Errorf("%s: window or TTL does not rise", c.name)
					}
				}
			}
		}
		box := newBox(t, firewall.OnPath, Set{Storm: []*Storm{{}}}, withSeed(seed))
		for _, name := range []string{"http-allowed", "ssh", "dns", "quic-allowed"} {
			if res := firewalltest.Pass(box, recorded(t, name)); len(res.Forged) > 0 {
				t.Errorf("%s: %d forged", name, len(res.Forged))
			}
		}
		if res := firewalltest.Pass(box, recorded(t, "godwit")); len(res.Forged) == 0 {
			t.Error("godwit at port 443 is spared")
		}
	})
}
