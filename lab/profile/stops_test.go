package profile

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// TestStops passes recordings of real programs through profiles. The gateway in them, 203.0.113.20, is at a hoster, the sites
// are not. A recording is stopped if anything of it was dropped or forged.
func TestStops(t *testing.T) {
	t.Parallel()
	const direct = "direct-https-banned chromium-https-banned "
	const random = "shadowsocks shadowsocks-cfb shadowsocks-2022 obfs4 vmess "
	const looksLikeTLS = "reality trojan anytls shadowtls https-proxy "
	for name, c := range map[string]struct{ stopped, untouched string }{
		"tspu-2025": {direct + random + looksLikeTLS + "openvpn-udp openvpn-tcp wireguard ikev2 hysteria2 godwit",
			"direct-https-allowed chromium-https-allowed http-allowed chromium-quic-allowed dns ssh"},
		"iran-whitelist": {direct + random + "http-banned openvpn-udp openvpn-tcp wireguard ikev2 hysteria2 chromium-quic-allowed",
			looksLikeTLS + "direct-https-allowed chromium-https-allowed http-allowed ssh godwit"},
		"throttle": {"wireguard openvpn-udp hysteria2", random + looksLikeTLS + "direct-https-allowed chromium-https-allowed http-allowed ssh godwit"},
		"shutdown": {direct + random + looksLikeTLS + "openvpn-udp openvpn-tcp wireguard ikev2 hysteria2 ssh godwit", ""},
		"research-worst": {"wireguard openvpn-udp ikev2 reality trojan anytls shadowtls",
			direct + "http-banned ssh dns hysteria2 https-proxy chromium-quic-banned godwit"},
	} {
		stopped := func(recording string, seed uint64) (n int) {
			p, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			w, err := p.Build(seed, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range w.Boxes {
				res := firewalltest.Pass(b, firewalltest.Read(t, "../firewall/testdata/peers/"+recording+".pcap"))
				n += len(res.Dropped) + len(res.Forged)
			}
			return n
		}
		for seed := range uint64(20) {
			for _, recording := range strings.Fields(c.stopped) {
				if stopped(recording, seed) == 0 {
					t.Errorf("%s, seed %d: %s passes", name, seed, recording)
				}
			}
			for _, recording := range strings.Fields(c.untouched) {
				if n := stopped(recording, seed); n > 0 {
					t.Errorf("%s, seed %d: %d packets of %s", name, seed, n, recording)
				}
			}
		}
	}
}
