package hostnet

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// forget has the router ask again who its neighbours are.
func (w *world) forget(t *testing.T) {
	t.Helper()
	must(t, w.router.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		list, err := netlink.NeighList(l.Attrs().Index, unix.AF_INET)
		if err != nil {
			return err
		}
		for _, n := range list {
			if err := netlink.NeighDel(&n); err != nil {
				return err
			}
		}
		return nil
	}))
}

// answered reports whether the client said that an address is its own.
func (w *world) answered(a netip.Addr, since int) bool {
	for _, f := range w.seen.Frames()[since:] {
		if !f.Outgoing && binary.BigEndian.Uint16(f.Data[12:]) == unix.ETH_P_ARP && f.Data[21] == 2 {
			if from, _ := netip.AddrFromSlice(f.Data[28:32]); from == a {
				return true
			}
		}
	}
	return false
}

// TestNeighbours shows that a neighbour gets nothing for the TUN's address, not even whose it is (CVE-2019-14899); that
// the machine itself does; and that neighbours still find its own address, also by the strictest reverse path filter.
func TestNeighbours(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	w.set(t, h, Desired{})
	w.forget(t)
	w.marked(t)
	newTun(t, w.client, "tun7")
	w.set(t, h, carrying)
	for _, p := range []netip.Prefix{tun4, tun6} {
		must(t, w.router.AddRoute(netns.Route{To: p, Dev: "eth0"}), w.router.AddNeighbour("eth0", p.Addr(), w.mac))
		listener, err := w.client.ListenUDP(netip.AddrPortFrom(p.Addr(), 1030))
		must(t, err)
		defer listener.Close()
		must(t, w.router.Do(udp(netip.AddrPortFrom(p.Addr(), 1030), netip.Addr{})))
		w.marked(t) // whose answers come after it
		must(t, w.client.Do(func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(p.Addr(), 1030).String())
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("own"))
			return errors.Join(err, c.Close())
		}))
		b := make([]byte, 100)
		listener.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := listener.Read(b); err != nil || string(b[:n]) != "own" {
			t.Errorf("%v heard %q, %v", p.Addr(), b[:n], err)
		}
	}
	for _, d := range []Desired{carrying, everything} {
		w.set(t, h, d)
		w.forget(t)
		since := len(w.seen.Frames())
		must(t, w.router.Do(udp(netip.AddrPortFrom(tun4.Addr(), 1030), netip.Addr{})))
		w.marked(t) // the router asks for the client after it has asked for the TUN
		if w.answered(tun4.Addr(), since) {
			t.Error("the client answered for the TUN's address")
		}
		if !w.answered(client4.Addr(), since) {
			t.Error("the client did not answer for its own address")
		}
	}
	must(t, w.client.Do(h.Close))
}

// TestLease shows that a lease is renewed, by a DHCP client that asks its server as one program asks another; and that
// the port does not let others out.
func TestLease(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	w.set(t, h, Desired{})
	server, err := w.router.ListenUDP(netip.AddrPortFrom(router4.Addr(), 67))
	must(t, err)
	defer server.Close()
	client, err := w.client.ListenUDP(netip.AddrPortFrom(client4.Addr(), 68))
	must(t, err)
	defer client.Close()
	b := make([]byte, 100)
	_, err = client.WriteToUDPAddrPort([]byte("renew"), netip.AddrPortFrom(router4.Addr(), 67))
	must(t, err)
	server.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := server.ReadFromUDPAddrPort(b)
	must(t, err)
	_, err = server.WriteToUDPAddrPort(b[:n], from)
	must(t, err)
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := client.Read(b); err != nil || string(b[:n]) != "renew" {
		t.Errorf("%q, %v", b[:n], err)
	}
	await(t, w.seen, "renew")
	if strays := w.try(t, []attempt{{"another port", udp(netip.AddrPortFrom(router4.Addr(), 67), netip.Addr{}), ""}}); len(strays) > 0 {
		t.Errorf("left the machine: %v", strays)
	}
	must(t, w.client.Do(h.Close))
}
