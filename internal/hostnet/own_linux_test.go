package hostnet

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// TestOwnNetwork shows that what the machine says to the TUN's own network stays inside, also if the local network, which
// may be reached, has the same addresses, and all of it is direct.
func TestOwnNetwork(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	u := newTun(t, w.client, "tun7")
	own := Desired{Tun: "tun7", LAN: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.77.0.1/30"),
		netip.MustParsePrefix("fd88::1/64")}}
	w.ip(t, func(l netlink.Link) error {
		for _, p := range []string{"10.77.0.9/8", "fd88::9/32"} {
			if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: netipx.PrefixIPNet(netip.MustParsePrefix(p)),
				Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, p := range []string{"10.77.0.2/32", "fd88::2/128", "10.0.0.0/8", "fd00::/8"} {
		must(t, w.client.AddRoute(netns.Route{To: netip.MustParsePrefix(p), Dev: "eth0"}))
	}
	var peers []attempt
	for _, a := range []string{"10.77.0.2", "fd88::2"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(a), 1050)
		peers = append(peers, attempt{"", udp(to, netip.Addr{}), ""}, attempt{"", udp(to, netip.Addr{}, bindTo("eth0")), ""})
	}
	list := append(peers, attempts("eth0")[:2]...)
	for _, direct := range []string{"", "10.0.0.0/8 fd00::/8"} {
		own.Direct = prefixesOf(direct)
		w.set(t, h, own)
		if strays := w.try(t, list); len(strays) > 0 {
			t.Errorf("direct %q: left the machine: %v", direct, strays)
		}
		u.read(t, "packet to the TUN's own network", udpTo(netip.MustParseAddrPort("10.77.0.2:1050")))
		u.read(t, "packet to the TUN's own network", udpTo(netip.MustParseAddrPort("[fd88::2]:1050")))
	}
	u.close()
	if strays := w.try(t, list); len(strays) > 0 {
		t.Errorf("after the TUN went: left the machine: %v", strays)
	}
	own.Tun = ""
	w.set(t, h, own)
	if strays := w.try(t, list); len(strays) > 0 {
		t.Errorf("without a tunnel: left the machine: %v", strays)
	}
	must(t, w.client.Do(h.Close))
}

// TestWithoutIPv6 shows that a machine whose IPv6 is off, wholly or for the TUN, is served all the same.
func TestWithoutIPv6(t *testing.T) {
	for _, off := range []string{"all", "default"} {
		t.Run(off, func(t *testing.T) {
			w := newWorld(t)
			w.settled(t)
			must(t, w.client.Sysctl("net.ipv6.conf."+off+".disable_ipv6", "1"))
			before := w.snapshot(t)
			h := w.open(t)
			u := newTun(t, w.client, "tun7")
			w.set(t, h, everything)
			w.set(t, h, everything)
			must(t, w.client.Do(udp(netip.AddrPortFrom(gateway4, strayPort), netip.Addr{})))
			u.read(t, "packet", udpTo(netip.AddrPortFrom(gateway4, strayPort)))
			u.close()
			must(t, w.client.Do(h.Close))
			same(t, off, before, w.snapshot(t))
		})
	}
}
