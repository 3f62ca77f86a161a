package client

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/rules"
)

var errBlocked = flow.Errorf(flow.CodeDenied, "one of this machine's rules blocks it")

// decide says what the rules make of a connection. Where it is to an address that was given out for a name, they see both.
func (c *Client) decide(t flow.Target) rules.Action {
	if c.rules == nil || t == flow.ResolverTarget {
		return rules.Tunnel
	}
	f := rules.Flow{Name: t.Host, Port: t.Port}
	if a, ok := t.Addr(); ok {
		f.Name, f.Addr = "", a
		if r := c.resolver.Load(); r != nil {
			f.Name, _ = r.NameOf(a)
		}
	}
	return c.rules.Match(f).Action
}

// blocks reports whether the rules block a packet. Those that they would send directly go through the tunnel: only connections
// can go past it.
func (c *Client) blocks(b []byte) bool {
	if c.rules == nil {
		return false
	}
	_, dst, err := packet.Addrs(b)
	if err != nil {
		return false
	}
	t := flow.Target{Host: dst.String()}
	if p, err := packet.Parse(b); err == nil && p.Proto == packet.ProtoUDP && len(p.Payload) >= 4 {
		t.Port = binary.BigEndian.Uint16(p.Payload[2:])
	}
	return c.decide(t) == rules.Block
}

// direct connects past the tunnel.
func (c *Client) direct(ctx context.Context, t flow.Target) (flow.Stream, error) {
	d := net.Dialer{Control: c.cfg.Protect}
	conn, err := d.DialContext(ctx, "tcp", t.String())
	if err != nil {
		return nil, flow.Errorf(flow.CodeOf(err), "past the tunnel: %v", err)
	}
	return &directStream{conn.(*net.TCPConn)}, nil
}

// directStream is a connection of this machine's own. It implements flow.Stream.
type directStream struct{ *net.TCPConn }

// Reset implements flow.Stream.
func (s *directStream) Reset(flow.Code) {
	s.SetLinger(0)
	s.Close()
}

// Join implements flow.Stream.
func (s *directStream) Join(conn net.Conn) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var broken error
	pass := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if err == nil {
			if c, ok := to.(interface{ CloseWrite() error }); ok {
				err = c.CloseWrite()
			}
		}
		if err == nil || errors.Is(err, net.ErrClosed) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if broken == nil { // both ends are to see a reset
			broken = err
			s.Reset(flow.CodeReset)
			if l, ok := conn.(interface{ SetLinger(int) error }); ok {
				l.SetLinger(0)
			}
			conn.Close()
		}
	}
	wg.Go(func() { pass(conn, s.TCPConn) })
	wg.Go(func() { pass(s.TCPConn, conn) })
	wg.Wait()
	conn.Close()
	s.Close()
	return broken
}
