package rules

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestAim(t *testing.T) {
	t.Parallel()
	frames := recorded(t, "wireguard")
	for _, c := range []struct {
		name string
		aim  Aim
		hit  bool
	}{
		{"everything", Aim{}, true},
		{"its network", Aim{To: Nets{{Prefix: netip.MustParsePrefix("203.0.113.0/24")}}, Ports: []int{51820}, Outbound: true}, true},
		{"another network", Aim{To: Nets{{Prefix: netip.MustParsePrefix("198.51.100.0/24")}}}, false},
		{"another port", Aim{Ports: []int{1194}}, false},
	} {
		if got := fired(t, Set{WireGuard: []*WireGuard{{Aim: c.aim, Then: cut}}}, frames); (len(got) > 0) != c.hit {
			t.Errorf("%s: fired %q", c.name, got)
		}
	}
	// Groups reach into it.
	rule := &WireGuard{Aim: Aim{To: Nets{{group: "abroad"}}}, Then: cut}
	_, err := (&Set{WireGuard: []*WireGuard{rule}}).Named(firewall.InPath, Groups{Nets: map[string][]netip.Prefix{
		"abroad": {netip.MustParsePrefix("203.0.113.0/24")}}})
	if err != nil || !rule.To.Has(netip.MustParseAddr("203.0.113.20")) {
		t.Errorf("%v, %v", rule.To, err)
	}
}

func TestChecksOfVPNRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field string
		set   Set
	}{
		{"ports", Set{WireGuard: []*WireGuard{{Aim: Aim{Ports: []int{70000}}, Then: cut}}}},
		{"chance", Set{SSH: []*SSH{{Aim: Aim{Chance: -1}, Then: cut}}}},
		{"then", Set{SSH: []*SSH{{}}}},
		{"to", Set{SSH: []*SSH{{Aim: Aim{To: Nets{{group: "nobody"}}}, Then: cut}}}},
		{"rate", Set{SSH: []*SSH{{Rate: -1, Then: cut}}}},
		{"at", Set{WireGuard: []*WireGuard{{At: "later", Then: cut}}}},
		{"data", Set{WireGuard: []*WireGuard{{Data: 2, Then: cut}}}},
		{"by", Set{OpenVPN: []*OpenVPN{{By: "magic", Then: cut}}}},
		{"acks", Set{OpenVPN: []*OpenVPN{{ACKs: OpenVPNACKs{Nth: 4}, Then: cut}}}},
		{"acks.early", Set{OpenVPN: []*OpenVPN{{By: "acks", ACKs: OpenVPNACKs{Early: 5}, Then: cut}}}},
		{"signs", Set{IPsec: []*IPsec{{Signs: []string{"ike"}, Then: cut}}}},
		{"numbers", Set{IPProtocol: []*IPProtocol{{Numbers: []int{6}, Then: cut}}}},
		{"ports", Set{IPProtocol: []*IPProtocol{{Aim: Aim{Ports: []int{47}}, Then: cut}}}},
		{"ciphers", Set{Tor: []*Tor{{Then: cut}}}},
		{"ja4", Set{TLSFingerprint: []*TLSFingerprint{{Then: cut}}}},
		{"ja3", Set{TLSFingerprint: []*TLSFingerprint{{JA3: []string{"abc"}, Then: cut}}}},
		{"extensions", Set{TLSFingerprint: []*TLSFingerprint{{Extensions: []int{-1}, Then: cut}}}},
		{"ja4", Set{DTLSFingerprint: []*DTLSFingerprint{{Then: cut}}}},
		{"overhead", Set{SSTP: []*SSTP{{Overhead: [2]int{5, 1}, Then: cut}}}},
		{"client", Set{Obfs4: []*Obfs4{{Client: [2]int{5, 1}, Then: cut}}}},
		{"first", Set{EncryptedSizes: []*EncryptedSizes{{First: [2]int{5, 1}, Then: cut}}}},
		{"length", Set{ShadowsocksFirst: []*ShadowsocksFirst{{Length: [2]int{5, 1}}}}},
	} {
		_, err := c.set.Named(firewall.InPath, Groups{})
		if err == nil || !strings.Contains(err.Error(), `field "`+c.field+`"`) {
			t.Errorf("want field %q, got %v", c.field, err)
		}
	}
}

// TestAimInProfile has the keys of Aim among the rule's own.
func TestAimInProfile(t *testing.T) {
	t.Parallel()
	text := `
[[openvpn]]
by = "resets"
data = 15
to = ["203.0.113.0/24"]
outbound = true
then = { block = "connection", for = "60s" }
`
	var set Set
	if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&set); err != nil {
		t.Fatal(err)
	}
	r := set.OpenVPN[0]
	if !r.To.Has(netip.MustParseAddr("203.0.113.20")) || !r.Outbound || r.Data != 15 || r.Then.For != always(time.Minute) {
		t.Errorf("%+v", r)
	}
}

// FuzzVPNRules passes conversations through all rules that read the protocols of VPNs: each packet is a byte for the sender
// and the length, and as many bytes.
func FuzzVPNRules(f *testing.F) {
	for _, name := range []string{"openvpn-udp", "wireguard", "ikev2"} {
		var talk []byte
		for _, text := range said(f, recorded(f, name), 8) {
			n := min(len(text)-1, 127)
			sender := byte(0)
			if text[0] == '<' {
				sender = 128
			}
			talk = append(append(talk, sender|byte(n)), text[1:1+n]...)
		}
		f.Add(false, talk)
		f.Add(true, talk)
	}
	f.Fuzz(func(t *testing.T, tcp bool, talk []byte) {
		any := Aim{Ports: []int{443}}
		set := Set{
			EncryptedSizes: []*EncryptedSizes{{Then: cut}}, ShadowsocksFirst: []*ShadowsocksFirst{{Known: true}},
			OpenVPN: []*OpenVPN{{Then: cut}, {AnyOpcodes: true, Packets: 4, Then: cut}, {By: "acks", Then: cut},
				{By: "resets", Data: 1, Then: cut}, {By: "sessions", Then: cut}},
			WireGuard: []*WireGuard{{At: "data", MAC2: true, Used: 1, Then: cut}}, IPsec: []*IPsec{{Packets: 9, Then: cut}},
			PPTP: []*PPTP{{Aim: any, Then: cut}}, L2TP: []*L2TP{{Aim: any, Then: cut}}, SSTP: []*SSTP{{ALPN: true, Then: cut}},
			SSH: []*SSH{{Rate: 1, Then: cut}}, Tor: []*Tor{{RandomName: true, Records: true, Then: cut}},
			Obfs4: []*Obfs4{{Then: cut}}, TLSFingerprint: []*TLSFingerprint{{JA3: []string{strings.Repeat("0", 32)}, JA4: []string{"x"}, Others: true, Then: cut}},
			DTLSFingerprint: []*DTLSFingerprint{{Groups: []string{"x"}, JA3: []string{strings.Repeat("0", 32)}, HelloVerify: true, ServerGroups: true, Then: cut}},
		}
		var texts []string
		for len(talk) > 0 {
			n := min(int(talk[0]&127), len(talk)-1)
			texts = append(texts, "><"[talk[0]>>7:talk[0]>>7+1]+string(talk[1:1+n]))
			talk = talk[1+n:]
		}
		proto := uint8(firewall.UDP)
		if tcp {
			proto = firewall.TCP
		}
		firewalltest.Pass(newBox(t, firewall.InPath, set), firewalltest.Conn(t, proto, "192.0.2.10:40000", "203.0.113.20:443", 0, texts...))
	})
}
