package peer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// needTUN is a Check.
func needTUN() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("a TUN interface cannot be made: %w", err)
	}
	return f.Close()
}

// into routes the targets into a tunnel's interface on the client.
func (s *Site) into(dev string, source netip.Addr) error {
	return s.Client.AddRoute(netns.Route{To: s.Targets, Dev: dev, Source: source, CC: s.CC})
}

// forward makes the gateway's host a router for its tunnel.
func (s *Site) forward(ctx context.Context) error {
	err := s.Gateway.Sysctl("net.ipv4.ip_forward", "1")
	if err != nil || !s.NAT {
		return err
	}
	nft, err := debian("nft", "nftables")
	if err != nil {
		return err
	}
	_, err = s.run(ctx, s.Gateway, nft, "add table ip peer; add chain ip peer out { type nat hook postrouting priority 100; };"+
		" add rule ip peer out ip saddr "+Tunnels.String()+" masquerade")
	return err
}

// makeTUN makes an interface that is there before the program that serves it, and after, so that its routes are too:
// what is meant for the tunnel never takes another way.
func (s *Site) makeTUN(h *netns.Host, dev string, addr netip.Prefix) error {
	err := h.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq(dev)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return errors.Join(unix.IoctlIfreq(fd, unix.TUNSETIFF, req), unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1))
	})
	if err != nil {
		return fmt.Errorf("host %s: make TUN interface %s: %w", h.Name, dev, err)
	}
	if err := h.LinkUp(dev); err != nil {
		return err
	}
	return h.AddAddr(dev, addr, s.CC)
}
