package iface

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/sysctl"
)

// Set gives a TUN its addresses, and no others, and its MTU, unless that is 0, and brings it up.
func Set(name string, addrs []netip.Prefix, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if mtu > 0 && link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("MTU: %w", err)
		}
	}
	// The kernel is not to talk into the TUN by itself: no link-local address, and so no soliciting of routers.
	if now, err := sysctl.Read("ipv6/conf/" + name + "/addr_gen_mode"); err == nil && now != "1" {
		_ = sysctl.Write("ipv6/conf/"+name+"/addr_gen_mode", "1")
	}
	have, err := addresses(link)
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	for _, p := range Carried(name, addrs) {
		if i := slices.Index(have, p); i >= 0 {
			have = slices.Delete(have, i, i+1)
			continue
		}
		if err := netlink.AddrAdd(link, addr(p)); err != nil {
			return fmt.Errorf("address: %w", err)
		}
	}
	for _, p := range have {
		if err := netlink.AddrDel(link, addr(p)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("address: %w", err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Carried are those addresses that a TUN can have: none of IPv6 where that is off.
func Carried(name string, addrs []netip.Prefix) []netip.Prefix {
	off, err := sysctl.Read("ipv6/conf/" + name + "/disable_ipv6")
	return slices.DeleteFunc(slices.Clone(addrs), func(p netip.Prefix) bool { return p.Addr().Is6() && (err != nil || off != "0") })
}

// Clear takes its addresses from a TUN that may be there still.
func Clear(name string, addrs []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	} else if err != nil {
		return err
	}
	have, err := addresses(link)
	if err != nil {
		return err
	}
	for _, p := range addrs {
		if slices.Contains(have, p) {
			if err := netlink.AddrDel(link, addr(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addresses are an interface's, without link-local ones.
func addresses(link netlink.Link) (have []netip.Prefix, err error) {
	list, err := Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	for _, a := range list {
		if p, _ := netipx.FromStdIPNet(a.IPNet); !p.Addr().IsLinkLocalUnicast() {
			have = append(have, p)
		}
	}
	return have, err
}

// addr is an address that can be used at once, and brings no route to the main table.
func addr(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: netipx.PrefixIPNet(p), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD}
}

// Dump lists something of the kernel's, again if it was changed meanwhile.
func Dump[T any](list func() (T, error)) (v T, err error) {
	for range 10 {
		if v, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}
