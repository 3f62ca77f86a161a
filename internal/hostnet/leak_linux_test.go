package hostnet

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// carrying is what the tests' tunnel wants.
var carrying = Desired{Tun: "tun7", Addrs: []netip.Prefix{tun4, tun6}, MTU: 1400, DNS: []netip.Addr{netip.MustParseAddr("100.64.9.1")}}

// TestLeaks goes through what happens to a machine while programs keep trying, and looks at what left it.
func TestLeaks(t *testing.T) {
	w := newWorld(t)
	list := attempts("eth0")
	eth := func(change func(l netlink.Link) error) { t.Helper(); w.ip(t, change) }
	none := func(what string) {
		t.Helper()
		if strays := w.try(t, list); len(strays) > 0 {
			t.Errorf("%s: left the machine: %s", what, strings.Join(strays, ", "))
		}
	}

	// The control: without Set all of them are seen.
	seen := w.try(t, list)
	for _, a := range list {
		if !slices.Contains(seen, a.seen) {
			t.Errorf("before Set: %s: no %s was seen: %v", a.name, a.seen, seen)
		}
	}

	h := w.open(t)
	w.set(t, h, Desired{})
	none("without a tunnel")
	if packets, bytes, err := w.blocked(h); packets == 0 || bytes == 0 || err != nil {
		t.Errorf("blocked: %d packets, %d bytes, %v", packets, bytes, err)
	}

	u := newTun(t, w.client, "tun7")
	w.set(t, h, carrying)
	none("with a tunnel")
	for _, to := range []netip.Addr{site4, site6, router4.Addr(), router6.Addr()} {
		u.read(t, "query to "+to.String(), udpTo(port53(to)))
	}

	// A DHCP server's option 121 (TunnelVision), and an advertisement of a router's routes (RFC 4191).
	var hostile []*netlink.Route
	eth(func(l netlink.Link) error {
		for _, p := range []string{"0.0.0.0/1", "128.0.0.0/1", "203.0.113.5/32", "198.51.100.1/32", "10.0.0.0/8", "10.1.2.3/32",
			"::/1", "8000::/1", "3fff:5::5/128", "fd00::/8"} {
			to := netip.MustParsePrefix(p)
			via, protocol := router4.Addr(), netlink.RouteProtocol(unix.RTPROT_DHCP)
			if is6(to) {
				via, protocol = router6.Addr(), unix.RTPROT_RA
			}
			r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: netipx.PrefixIPNet(to), Gw: via.AsSlice(), Protocol: protocol}
			if err := netlink.RouteAdd(r); err != nil {
				return err
			}
			hostile = append(hostile, r)
		}
		return nil
	})
	none("with hostile routes")

	// The local network may be reached, and calls itself by other people's addresses (TunnelCrack).
	lan := carrying
	lan.LAN = true
	u.drop()
	w.set(t, h, lan)
	eth(func(l netlink.Link) error {
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: netipx.PrefixIPNet(netip.MustParsePrefix("203.0.113.2/24"))})
	})
	strays := withoutGroups(w.try(t, list))
	want := []string{"UDP 192.168.7.1:1003", "UDP 224.0.0.251:5353", "UDP [ff02::fb]:5353", "UDP 239.255.255.250:1900",
		"UDP 192.168.7.255:137"}
	slices.Sort(want)
	slices.Sort(strays)
	if !slices.Equal(strays, want) {
		t.Errorf("with the local network: left the machine: %v, want %v", strays, want)
	}
	u.read(t, "query to a resolver at home", udpTo(port53(router4.Addr())))
	w.set(t, h, carrying)
	none("with a public local network")

	// The interface goes and comes back, with other addresses; another one comes.
	eth(netlink.LinkSetDown)
	eth(netlink.LinkSetUp)
	must(t, w.client.AddAddr("eth0", client6, ""))
	must(t, w.client.AddRoute(netns.Route{To: client4.Masked(), Dev: "eth0", Source: client4.Addr()}))
	must(t, w.client.AddDefaultRoute("eth0", router4.Addr()), w.client.AddDefaultRoute("eth0", router6.Addr()))
	none("after the interface went and came back")
	must(t, netns.Connect(w.client, "eth1", w.router, "eth1"))
	must(t, w.client.AddAddr("eth1", netip.MustParsePrefix("192.168.8.2/24"), ""))
	must(t, w.router.AddAddr("eth1", netip.MustParsePrefix("192.168.8.1/24"), ""))
	list = append(list, attempts("eth1")...)
	none("with another interface")

	// The process dies, and the TUN with it.
	h.lock.Close()
	u.close()
	none("after the process died")

	h = w.open(t)
	none("opened again")
	u = newTun(t, w.client, "tun7")
	none("with a TUN that nobody has set")
	w.set(t, h, carrying)
	none("with a tunnel again")
	u.close()
	none("without the TUN")
	w.set(t, h, Desired{})
	none("waiting for a tunnel again")
	h.lock.Close()

	must(t, w.client.Do(func() error {
		undone, err := rescue(w.state, w.etc)
		if len(undone) == 0 {
			t.Error("rescue has nothing to say")
		}
		return err
	}))
	if strays := w.try(t, list[:1]); !slices.Contains(strays, list[0].seen) {
		t.Errorf("after rescue: no %s was seen: %v", list[0].seen, strays)
	}
}

func (w *world) blocked(h *Host) (packets, bytes uint64, err error) {
	err = w.client.Do(func() (err error) {
		packets, bytes, err = h.Blocked()
		return err
	})
	return packets, bytes, err
}
