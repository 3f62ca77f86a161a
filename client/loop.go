package client

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"syscall"
)

// errLoop is why no link comes about where the client's own sockets are captured. Nothing else says so: to the client it looks
// as if nobody answered.
var errLoop = errors.New("the client's own connection to the gateway came back by the TUN: what keeps it out does not, " +
	"which is Config.Protect, or with up --tun the firewall mark 0x2677")

// sockets are those of the client's links: what comes by the TUN is to be from none of them.
type sockets struct {
	mu  sync.Mutex
	all []socket
}

type socket struct {
	tcp  bool
	conn syscall.RawConn
	port uint16 // 0 until it is known
}

// protect is Config.Protect, for sockets of links.
func (c *Client) protect(network, address string, conn syscall.RawConn) error {
	if c.cfg.Protect != nil {
		if err := c.cfg.Protect(network, address, conn); err != nil {
			return err
		}
	}
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	live := c.own.all[:0]
	for _, s := range c.own.all {
		if _, open := s.local(); open {
			live = append(live, s)
		}
	}
	clear(c.own.all[len(live):])
	c.own.all = append(live, socket{tcp: strings.HasPrefix(network, "tcp"), conn: conn})
	return nil
}

// local is where a socket sends from, as far as that is decided; open is false once it is closed.
func (s socket) local() (at netip.AddrPort, open bool) {
	err := s.conn.Control(func(fd uintptr) { at = localOf(fd) })
	return at, err == nil
}

// comesBack reports whether a packet that came by the TUN, from there, is one of the client's own, and has it known.
func (c *Client) comesBack(tcp bool, from netip.AddrPort) bool {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	for i := range c.own.all {
		s := &c.own.all[i]
		if s.port == 0 {
			at, _ := s.local()
			s.port = at.Port()
		}
		if s.tcp != tcp || s.port != from.Port() {
			continue
		}
		if at, _ := s.local(); at.Port() != from.Port() || at.Addr() != from.Addr() && !at.Addr().IsUnspecified() {
			continue
		}
		if !c.looped.Swap(true) {
			c.log.Error(errLoop.Error())
		}
		return true
	}
	return false
}

// addrPort is a socket's address; not valid for those of other families.
func addrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
