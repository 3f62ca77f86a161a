package rules

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestOpenVPN(t *testing.T) {
	t.Parallel()
	set := func(r OpenVPN) Set { return Set{OpenVPN: []*OpenVPN{&r}} }
	programs := map[string][]firewalltest.Frame{
		"UDP": recorded(t, "openvpn-udp"), "TCP": recorded(t, "openvpn-tcp"),
		"tls-auth": own(t, "openvpn-tls-auth"), "tls-crypt": own(t, "openvpn-tls-crypt"),
	}
	for _, rule := range []OpenVPN{
		{Then: cut},
		{AnyOpcodes: true, Then: cut},
		{By: "resets", Then: cut},
		{By: "resets", Data: 15, Then: cut},
		{By: "sessions", Then: cut},
	} {
		new := func() Set { return set(rule) }
		hits(t, new, programs)
		spares(t, new)
	}
	// Version 2.6 acknowledges otherwise than what the paper measured.
	acks := func() Set { return set(OpenVPN{By: "acks", ACKs: OpenVPNACKs{Nth: 4, Slack: 4}, Then: cut}) }
	hits(t, acks, map[string][]firewalltest.Frame{"UDP": programs["UDP"], "TCP": programs["TCP"]})
	spares(t, acks)
	// Crafted after the paper's description: acknowledgements of one size in the first twenty packets.
	var old []string
	for range 8 {
		old = append(old, ">"+strings.Repeat("c", 114), "<"+strings.Repeat("c", 22))
	}
	old = append([]string{">" + strings.Repeat("r", 14), "<" + strings.Repeat("r", 26), ">" + strings.Repeat("a", 22)}, old...)
	old = append(old, talk(60, 700)...)
	paper := set(OpenVPN{By: "acks", ACKs: OpenVPNACKs{}, Then: cut})
	if got := fired(t, paper, firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:1194", 0, old...)); len(got) != 1 {
		t.Errorf("fired %q", got)
	}
	spares(t, func() Set { return set(OpenVPN{By: "acks", Then: cut}) })

	t.Run("after 15 data packets", func(t *testing.T) {
		for name, frames := range map[string][]firewalltest.Frame{"UDP": programs["UDP"], "TCP": programs["TCP"]} {
			res := firewalltest.Pass(newBox(t, firewall.InPath, set(OpenVPN{By: "resets", Data: 15, Then: cut})), frames)
			if len(res.Dropped) == 0 || res.Dropped[0] < 12+15 {
				t.Errorf("%s: dropped from %v on", name, res.Dropped[:min(1, len(res.Dropped))])
			}
		}
	})
	t.Run("XORed", func(t *testing.T) {
		texts := said(t, programs["UDP"], 40)
		for i, text := range texts {
			b := []byte(text)
			b[1] ^= 0xa8
			texts[i] = string(b)
		}
		frames := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:1194", 0, texts...)
		if got := fired(t, set(OpenVPN{Then: cut}), frames); len(got) > 0 {
			t.Errorf("opcodes: fired %q", got)
		}
		if got := fired(t, set(OpenVPN{AnyOpcodes: true, Then: cut}), frames); len(got) != 1 {
			t.Errorf("any opcodes: fired %q", got)
		}
	})
	t.Run("a reset in the middle", func(t *testing.T) {
		texts := said(t, programs["UDP"], 40)
		texts[15] = texts[0]
		frames := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:1194", 0, texts...)
		if got := fired(t, set(OpenVPN{Then: cut}), frames); len(got) > 0 {
			t.Errorf("fired %q", got)
		}
	})
	t.Run("another session", func(t *testing.T) {
		texts := said(t, programs["UDP"], 40)
		b := []byte(texts[2])
		b[2] ^= 1
		texts[2] = string(b)
		frames := firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", "203.0.113.20:1194", 0, texts...)
		if got := fired(t, set(OpenVPN{By: "sessions", Then: cut}), frames); len(got) > 0 {
			t.Errorf("fired %q", got)
		}
	})
}
