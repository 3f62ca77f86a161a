package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/godwit-vpn/godwit/internal/capture/tun"
	"github.com/godwit-vpn/godwit/internal/names"
)

// TUN is a network device whose traffic the client carries. Whoever makes it gives it addresses and routes, and keeps the
// client's own sockets out of it (Config.Protect): the client touches neither.
type TUN struct {
	// File is the device's descriptor. The client closes it.
	File *os.File
	// Offload says that each packet has Linux's virtio_net_hdr in front, and that its checksum and its segments may be left to
	// the reader (IFF_VNET_HDR; TUNSETOFFLOAD with TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6). Without it packets come as they are.
	Offload bool
	// Prefix4 and Prefix6 are networks with room for two addresses: the first is the device's own, from which programs send,
	// and the second must be nobody's. Either may be missing: that IP version is then not carried.
	Prefix4, Prefix6 netip.Prefix
}

// TUNStats are counts of what has come by a TUN since it was given to the client.
type TUNStats struct {
	Connections int    `json:"connections"` // now
	Opened      uint64 `json:"connections_opened"`
	Refused     uint64 `json:"connections_refused"`
	Packets     uint64 `json:"packets"`
	Questions   uint64 `json:"questions"`
	Dropped     uint64 `json:"packets_dropped"`
}

// ErrTUN is returned by ServeTUN while there is one already.
var ErrTUN = errors.New("the client serves a TUN already")

// ServeTUN carries what comes by a TUN until ctx is done, and then returns nil; or until the device fails. TCP crosses as
// streams, UDP and ICMP echoes as packets, and DNS questions, whoever they are for, are answered by the gateway's resolvers.
func (c *Client) ServeTUN(ctx context.Context, t TUN) error {
	resolver := names.New(names.Config{Outside: c, Linked: c.online})
	defer resolver.Close()
	capture, err := tun.New(tun.Config{
		Device: tun.NewDevice(t.File, t.Offload), Prefix4: t.Prefix4, Prefix6: t.Prefix6,
		Outside: c, Send: c.sendPacket, Inner: c.inner, Online: c.online,
		Answer:   resolver.Answer,
		ServeDNS: func(ctx context.Context, conn net.Conn) { resolver.Serve(ctx, conn) },
		NameOf:   resolver.NameOf,
		Logger:   c.log,
	})
	if err != nil {
		t.File.Close()
		return err
	}
	if !c.tun.CompareAndSwap(nil, capture) {
		capture.Close()
		return ErrTUN
	}
	c.resolver.Store(resolver)
	defer func() {
		c.tun.Store(nil)
		c.resolver.Store(nil)
	}()
	return capture.Run(ctx)
}

// deliver takes a packet from the session to whoever it is for: one of the proxy's ports, or else the TUN.
func (c *Client) deliver(p []byte) {
	if c.udp.Deliver(p) {
		return
	}
	if t := c.tun.Load(); t != nil {
		t.Deliver(p)
	}
}

// inner are the addresses that the session has at the gateway.
func (c *Client) inner() (v4, v6 netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs.v4, c.addrs.v6
}

// online reports whether there is a link that answers.
func (c *Client) online() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		if l.answered && !l.suspected {
			return true
		}
	}
	return false
}

// tunStats is nil where there is no TUN.
func (c *Client) tunStats() *TUNStats {
	t := c.tun.Load()
	if t == nil {
		return nil
	}
	s := t.Stats()
	return &TUNStats{Connections: s.Connections, Opened: s.Opened, Refused: s.Refused, Packets: s.Packets,
		Questions: s.Questions, Dropped: s.Dropped}
}
