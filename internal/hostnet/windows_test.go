package hostnet

import (
	"net/netip"
	"strings"
	"testing"
)

func TestWindowsCommands(t *testing.T) {
	d := macDesired
	d.Tun = "Godwit"
	want := `netsh interface ipv4 set interface Godwit metric=1 dadtransmits=0 store=active
netsh interface ipv4 set subinterface Godwit mtu=1500 store=active
netsh interface ipv4 add address Godwit 198.18.66.1/24 store=active
netsh interface ipv6 set interface Godwit metric=1 dadtransmits=0 routerdiscovery=disabled store=active
netsh interface ipv6 set subinterface Godwit mtu=1500 store=active
netsh interface ipv6 add address Godwit fd67:6f64:7769:7400::1/64 store=active
netsh interface ipv4 add route 0.0.0.0/1 Godwit metric=0 store=active
netsh interface ipv4 add route 128.0.0.0/1 Godwit metric=0 store=active
netsh interface ipv6 add route ::/1 Godwit metric=0 store=active
netsh interface ipv6 add route 8000::/1 Godwit metric=0 store=active
netsh interface ipv4 add dnsservers Godwit 198.18.66.53 index=1 validate=no
`
	var got strings.Builder
	for _, c := range windowsInterface(d) {
		got.WriteString(strings.Join(c, " ") + "\n")
	}
	if got.String() != want {
		t.Errorf("commands:\n%s", &got)
	}
}

func TestOutside(t *testing.T) {
	all := []adapter{
		{name: "Godwit", up: true, metric: [2]uint32{1, 1}},
		{name: "Ethernet", gateway: [2]bool{true, true}, metric: [2]uint32{5, 5}}, // unplugged
		{name: "Wi-Fi", up: true, gateway: [2]bool{true, false}, metric: [2]uint32{40, 40},
			luid: 9, index: [2]uint32{14, 14}, resolver: []netip.Addr{netip.MustParseAddr("192.168.1.1")}},
		{name: "Mobile", up: true, gateway: [2]bool{true, false}, metric: [2]uint32{55, 55}},
	}
	for _, six := range []bool{false, true} {
		if a, ok := outside(all, six); !ok || a.name != "Wi-Fi" {
			t.Errorf("IPv6 %v: %q, %v", six, a.name, ok)
		}
	}
	all[3].gateway[1] = true
	if a, ok := outside(all, true); !ok || a.name != "Mobile" {
		t.Errorf("by IPv6: %q, %v", a.name, ok)
	}
	if a, ok := outside(all[:2], false); ok {
		t.Errorf("without a network: %q", a.name)
	}
	const want = `netsh advfirewall firewall add rule name=Godwit dir=in action=allow profile=any protocol=TCP program=C:\godwit.exe ` +
		`localip=198.18.66.1,fd67:6f64:7769:7400::1`
	if got := strings.Join(windowsFirewall(macDesired, `C:\godwit.exe`), " "); got != want {
		t.Errorf("command: %s", got)
	}
}
