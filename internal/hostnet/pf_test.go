package hostnet

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var macDesired = Desired{Tun: "utun7", MTU: 1500, DNS: []netip.Addr{netip.MustParseAddr("198.18.66.53")},
	Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.66.1/24"), netip.MustParsePrefix("fd67:6f64:7769:7400::1/64")}}

// What macOS's firewall is told, rule by rule: the first that holds decides.
func TestPFRules(t *testing.T) {
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
	const lan = `block drop out quick proto { tcp, udp } from any to any port { 53, 853, 5355 } label "godwit"
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
	links := []onLink{{"en0", netip.MustParsePrefix("192.168.1.0/24")}, {"en0", netip.MustParsePrefix("fe80::/10")}}
	d := macDesired
	if got := pfRules(d, links); got != head+tail {
		t.Errorf("without the local network:\n%s", got)
	}
	d.LAN = true
	if got := pfRules(d, links); got != head+lan+tail {
		t.Errorf("with the local network:\n%s", got)
	}
	// Without a tunnel nothing goes by any interface but what the tunnel itself would need.
	d = Desired{Addrs: macDesired.Addrs}
	for line := range strings.Lines(pfRules(d, nil)) {
		if strings.HasPrefix(line, "pass") && !strings.Contains(line, "on lo0") && !strings.Contains(line, "user 0") &&
			!strings.Contains(line, "icmp6-type") {
			t.Errorf("without a tunnel: %s", line)
		}
	}
}

func TestLocalOn(t *testing.T) {
	for of, want := range map[string]string{
		"192.168.1.7/24":                "192.168.1.0/24",
		"10.1.2.3/8":                    "10.0.0.0/8",
		"10.1.2.3/7":                    "", // half of it is somebody's
		"203.0.113.9/24":                "",
		"0.0.0.0/0":                     "",
		"169.254.3.4/16":                "169.254.0.0/16",
		"fe80::1/64":                    "fe80::/10",
		"fd00:1::7/64":                  "fd00:1::/64",
		"2001:db8::7/64":                "",
		"100.64.0.9/10":                 "",
		"172.16.0.1/32":                 "172.16.0.1/32",
		"192.168.1.7/12":                "",
		"fdff:ffff:ffff:ffff::1/128":    "fdff:ffff:ffff:ffff::1/128",
		"2606:2800:220:1:248:1893::/48": "",
	} {
		p, ok := localOn(netip.MustParsePrefix(of))
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("%s: %v, %v, and it should be %q", of, p, ok, want)
		}
	}
}

func TestPFSays(t *testing.T) {
	const main = "No ALTQ support in kernel\nALTQ related functions disabled\nscrub-anchor \"com.apple/*\" all fragment reassemble\n"
	if pfHasAnchor(main) {
		t.Error("an anchor for scrubbing is none for filtering")
	}
	if !pfHasAnchor(main + "anchor \"com.apple/*\" all\n") {
		t.Error("the anchor was not found")
	}
	packets, bytes, found := pfBlocked("No ALTQ support in kernel\ngodwit 12 3 180 0 0 3 180\nother 1 2 3 4 5 6 7\ngodwit 7 1 60 0 0 1 60\n")
	if packets != 4 || bytes != 240 || !found {
		t.Errorf("blocked: %d packets, %d bytes, %v", packets, bytes, found)
	}
	if _, _, found := pfBlocked("No ALTQ support in kernel\n"); found {
		t.Error("counters of no firewall")
	}
	if token := pfToken("No ALTQ support in kernel\npf enabled\nToken : 15338190474215364211\n"); token != "15338190474215364211" {
		t.Errorf("token: %q", token)
	}
	if token := pfToken("pfctl: pf already enabled\n"); token != "" {
		t.Errorf("token: %q", token)
	}
}

func TestMacCommands(t *testing.T) {
	var got []string
	for _, c := range macInterface(macDesired) {
		got = append(got, strings.Join(c, " "))
	}
	for _, p := range wanted(macDesired) {
		got = append(got, strings.Join(macRoute("add", p, "utun7"), " "))
	}
	want := []string{
		"ifconfig utun7 mtu 1500",
		"ifconfig utun7 inet 198.18.66.1/24 198.18.66.1 alias",
		"ifconfig utun7 inet6 fd67:6f64:7769:7400::1 prefixlen 64 alias",
		"ifconfig utun7 up",
		"route -q -n add -inet 0.0.0.0/1 -interface utun7",
		"route -q -n add -inet 128.0.0.0/1 -interface utun7",
		"route -q -n add -inet6 ::/1 -interface utun7",
		"route -q -n add -inet6 8000::/1 -interface utun7",
	}
	if !slices.Equal(got, want) {
		t.Errorf("commands:\n%s", strings.Join(got, "\n"))
	}
	if got := wanted(Desired{Tun: "utun7", Addrs: macDesired.Addrs[:1]}); !slices.Equal(got, halves[:2]) {
		t.Errorf("of IPv4 alone: %v", got)
	}
}
