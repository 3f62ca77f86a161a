package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestEncapsulatedTCP(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:51820"
	packet := func(way string, size int) string { return way + strings.Repeat("x", size) }
	handshake := []string{packet(">", 96), packet("<", 96), packet(">", 96), packet(">", 320), packet("<", 1400)}
	for _, c := range []struct {
		name  string
		texts []string
		gap   time.Duration
		found bool
	}{
		{"two handshakes", append(handshake, handshake...), ms, true},
		{"one", handshake, ms, false},
		{"slow acknowledgements", append(handshake, handshake...), 30 * ms, false},
		{"padded to the full", []string{packet(">", 1400), packet("<", 1400), packet(">", 1400), packet(">", 1400), packet(">", 1400), packet("<", 1400)}, ms, false},
		{"a call: small packets both ways", talk(400, 100), 10 * ms, false},
	} {
		frames := spaced(firewalltest.Conn(t, firewall.UDP, client, server, 0, c.texts...), c.gap)
		box := newBox(t, firewall.OnPath, Set{EncapsulatedTCP: []*EncapsulatedTCP{{}}})
		if found := len(firewalltest.Pass(box, frames).Fired()) > 0; found != c.found {
			t.Errorf("%s: found %v, want %v", c.name, found, c.found)
		}
	}
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, c := range []struct {
				capture string
				found   bool
			}{
				{"wireguard", true}, {"openvpn-udp", true}, {"ikev2", true},
				{"hysteria2", false}, {"quic-allowed", false}, {"quic-banned", false}, {"dns", false},
				{"chromium-https-allowed", false}, {"ssh", false},
			} {
				rule := &EncapsulatedTCP{Then: &Then{Block: scope(firewall.Endpoint)}}
				box := newBox(t, firewall.InPath, Set{EncapsulatedTCP: []*EncapsulatedTCP{rule}}, withSeed(seed))
				res := firewalltest.Pass(box, recorded(t, c.capture))
				if found := len(res.Fired()) > 0; found != c.found || found != (len(res.Dropped) > 0) {
					t.Errorf("%s: %v, %d dropped", c.capture, res.Events, len(res.Dropped))
				}
			}
		})
	})
}
