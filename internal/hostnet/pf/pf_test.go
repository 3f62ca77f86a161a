package pf

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
)

// What macOS's firewall is told, rule by rule: the first that holds decides.
func TestRules(t *testing.T) {
	const head = `pass quick on lo0 all no state
pass out quick on utun7 inet from 198.18.66.1 to any no state
block drop in quick on ! utun7 inet from any to 198.18.66.1
pass out quick on utun7 inet6 from fd67:6f64:7769:7400::1 to any no state
block drop in quick on ! utun7 inet6 from any to fd67:6f64:7769:7400::1
pass out quick proto { tcp, udp } all user 0 group 9847 no state
pass out quick inet proto udp from any port 68 to any port 67 user 0 no state
pass out quick inet6 proto udp from any port 546 to any port 547 user 0 no state
pass out quick inet6 proto ipv6-icmp all icmp6-type { 133, 134, 135, 136 } no state
block drop out quick inet from any to 198.18.66.0/24 label "godwit"
block drop out quick inet6 from any to fd67:6f64:7769:7400::/64 label "godwit"
`
	const local = `block drop out quick proto { tcp, udp } from any to any port { 53, 853, 5355 } label "godwit"
pass out quick on en0 inet from any to 192.168.1.0/24 no state
pass out quick on en0 inet6 from any to fe80::/10 no state
pass out quick inet from any to 224.0.0.0/24 no state
pass out quick inet from any to 239.0.0.0/8 no state
pass out quick inet from any to 255.255.255.255/32 no state
pass out quick inet6 from any to ff01::/16 no state
pass out quick inet6 from any to ff02::/16 no state
pass out quick inet6 from any to ff03::/16 no state
pass out quick inet6 from any to ff04::/16 no state
pass out quick inet6 from any to ff05::/16 no state
`
	const tail = `block drop out quick inet proto igmp all
block drop out quick inet6 proto ipv6-icmp all icmp6-type { 130, 131, 132, 143 }
block drop out quick all label "godwit"
`
	d := Desired{Tun: "utun7", Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.66.1/24"),
		netip.MustParsePrefix("fd67:6f64:7769:7400::1/64")},
		Links: []lan.Link{{Interface: "en0", Net: netip.MustParsePrefix("192.168.1.0/24")},
			{Interface: "en0", Net: netip.MustParsePrefix("fe80::/10")}}}
	if got := Rules(d); got != head+tail {
		t.Errorf("without the local network:\n%s", got)
	}
	d.LAN = true
	if got := Rules(d); got != head+local+tail {
		t.Errorf("with the local network:\n%s", got)
	}
	// Without a tunnel nothing goes by any interface but what the tunnel itself would need.
	d = Desired{Addrs: d.Addrs}
	for line := range strings.Lines(Rules(d)) {
		if strings.HasPrefix(line, "pass") && !strings.Contains(line, "on lo0") && !strings.Contains(line, "user 0") &&
			!strings.Contains(line, "icmp6-type") {
			t.Errorf("without a tunnel: %s", line)
		}
	}
}

func TestSays(t *testing.T) {
	const main = "No ALTQ support in kernel\nALTQ related functions disabled\nscrub-anchor \"com.apple/*\" all fragment reassemble\n"
	if HasAnchor(main) {
		t.Error("an anchor for scrubbing is none for filtering")
	}
	if !HasAnchor(main + "anchor \"com.apple/*\" all\n") {
		t.Error("the anchor was not found")
	}
	packets, bytes, found := Blocked("No ALTQ support in kernel\ngodwit 12 3 180 0 0 3 180\nother 1 2 3 4 5 6 7\ngodwit 7 1 60 0 0 1 60\n")
	if packets != 4 || bytes != 240 || !found {
		t.Errorf("blocked: %d packets, %d bytes, %v", packets, bytes, found)
	}
	if _, _, found := Blocked("No ALTQ support in kernel\n"); found {
		t.Error("counters of no firewall")
	}
	if token := Token("No ALTQ support in kernel\npf enabled\nToken : 15338190474215364211\n"); token != "15338190474215364211" {
		t.Errorf("token: %q", token)
	}
	if token := Token("pfctl: pf already enabled\n"); token != "" {
		t.Errorf("token: %q", token)
	}
}
