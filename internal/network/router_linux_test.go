package network

import (
	"net/netip"
	"strings"
	"testing"
)

// Tables as Linux prints them on a little-endian machine; a big-endian one prints the bytes the other way round.
const (
	routeTable = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"wlan0\t0002A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n" +
		"tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
	arpTable = "IP address       HW type     Flags       HW address            Mask     Device\n" +
		"192.168.2.1      0x1         0x2         02:00:00:00:00:99     *        eth0\n" +
		"192.168.2.1      0x1         0x2         02:00:00:00:00:01     *        wlan0\n" +
		"192.168.2.9      0x1         0x0         00:00:00:00:00:00     *        wlan0\n"
)

func TestRouter(t *testing.T) {
	a, dev := defaultRoute(strings.NewReader(routeTable))
	if want := netip.MustParseAddr("192.168.2.1"); a != want && a != netip.MustParseAddr("1.2.168.192") || dev != "wlan0" {
		t.Errorf("the default route goes to %v by %q", a, dev)
	}
	router := netip.MustParseAddr("192.168.2.1")
	for _, c := range []struct {
		of  netip.Addr
		dev string
		hw  string
	}{
		{router, "wlan0", "02:00:00:00:00:01"},
		{router, "wlan1", ""},
		{netip.MustParseAddr("192.168.2.9"), "wlan0", ""},
		{netip.MustParseAddr("192.168.2.3"), "wlan0", ""},
	} {
		if hw := hardware(strings.NewReader(arpTable), c.of, c.dev); hw != c.hw {
			t.Errorf("%v by %s: %q, not %q", c.of, c.dev, hw, c.hw)
		}
	}
	for _, damaged := range []string{"", "\n\n", "a b c", "x\t00000000\tzz\t3\t0\t0\t0\t00000000"} {
		if a, _ := defaultRoute(strings.NewReader(damaged)); a.IsValid() {
			t.Errorf("%q is a route to %v", damaged, a)
		}
	}
}
