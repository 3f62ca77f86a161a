package hostnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var macDesired = Desired{Tun: "utun7", MTU: 1500, DNS: []netip.Addr{netip.MustParseAddr("198.18.66.53")},
	Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.66.1/24"), netip.MustParsePrefix("fd67:6f64:7769:7400::1/64")}}

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

func TestScutil(t *testing.T) {
	dns := macDesired.DNS
	const script = `d.init
d.add ServerAddresses * 198.18.66.53
d.add SupplementalMatchDomains * ""
d.add SupplementalMatchDomainsNoSearch # 1
set State:/Network/Service/godwit/DNS
quit
`
	if got := scutilSet(dns); got != script {
		t.Errorf("script:\n%s", got)
	}
	const shown = `<dictionary> {
  ServerAddresses : <array> {
    0 : 198.18.66.53
  }
  SupplementalMatchDomains : <array> {
    0 : 
  }
}
`
	if !scutilHas(shown, dns) || scutilHas(shown, nil) || scutilHas("  No such key\n", dns) || !scutilHas("  No such key\n", nil) {
		t.Error("what is set was not read")
	}
}

// What scutil --dns shows on a Mac with Wi-Fi, while ours are set.
func TestScutilResolvers(t *testing.T) {
	const shown = `DNS configuration

resolver #1
  nameserver[0] : 198.18.66.53
  flags    : Supplemental, Request A records
  reach    : 0x00000003 (Reachable,Transient Connection)

resolver #2
  search domain[0] : lan
  nameserver[0] : 192.168.1.1
  nameserver[1] : fe80::1%en0
  if_index : 14 (en0)
  flags    : Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #3
  domain   : local
  options  : mdns
  timeout  : 5

DNS configuration (for scoped queries)

resolver #1
  search domain[0] : lan
  nameserver[0] : 192.168.1.1
  nameserver[1] : 192.168.1.2
  if_index : 14 (en0)
  flags    : Scoped, Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  nameserver[0] : 172.20.10.1
  if_index : 11 (en5)
  flags    : Scoped, Request A records
`
	for _, c := range []struct{ shown, iface, want string }{
		{shown, "en0", "[192.168.1.1 192.168.1.2]"},
		{shown, "en5", "[172.20.10.1]"},
		{shown, "en9", "[198.18.66.53 192.168.1.1 fe80::1%en0 192.168.1.2 172.20.10.1]"},
		{"No DNS configuration available\n", "en0", "[]"},
		{"", "", "[]"},
	} {
		if got := fmt.Sprint(scutilResolvers(c.shown, c.iface)); got != c.want {
			t.Errorf("of %q: %s, and it should be %s", c.iface, got, c.want)
		}
	}
}

func TestPhysical(t *testing.T) {
	everywhere4, everywhere6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	routes := []kernelRoute{
		{to: halves[0], index: 20}, {to: halves[2], index: 20},
		{to: everywhere4, index: 11, scoped: true},
		{to: everywhere4, index: 14},
		{to: everywhere6, index: 17, scoped: true}, // as every utun of the system's own has one
	}
	if got := physical(routes, false); got != 14 {
		t.Errorf("of IPv4: %d", got)
	}
	if got := physical(routes, true); got != 14 {
		t.Errorf("of IPv6, which has no way out: %d", got)
	}
	if got := physical(append(routes, kernelRoute{to: everywhere6, index: 15}), true); got != 15 {
		t.Errorf("of IPv6: %d", got)
	}
	if got := physical(routes[:3], false); got != 0 {
		t.Errorf("without a network: %d", got)
	}
	if got := halvesBy(routes, 20); !slices.Equal(got, []netip.Prefix{halves[0], halves[2]}) {
		t.Errorf("ours: %v", got)
	}
}
