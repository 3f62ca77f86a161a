package client

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/names"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/rules"
)

var errBlocked = flow.Errorf(flow.CodeDenied, "one of this machine's rules blocks it")

// SetRules has a file of rules count from now on (docs/rules.md), or none if it is empty. Connections that are there already stay
// as they are. After an error, which says where the file is wrong, the rules are those of before.
func (c *Client) SetRules(file string) error {
	if file == "" {
		c.rules.Store(nil)
		return nil
	}
	set, err := rules.Load(file)
	if err == nil {
		c.rules.Store(set)
	}
	return err
}

// decide says what the rules make of a connection, or of a packet, that a socket of an application's has to do with. Where it is
// to an address that was given out for a name, they see both.
func (c *Client) decide(t flow.Target, app owner.Socket) rules.Action {
	set := c.rules.Load()
	if set == nil || t == flow.ResolverTarget {
		return rules.Tunnel
	}
	f := rules.Flow{Name: t.Host, Port: t.Port}
	if a, ok := t.Addr(); ok {
		f.Name = ""
		c.about(&f, a)
	}
	return c.match(set, f, app)
}

// decidePacket is decide for a packet by a TUN.
func (c *Client) decidePacket(to netip.AddrPort, name string, app owner.Socket) rules.Action {
	set := c.rules.Load()
	if set == nil {
		return rules.Tunnel
	}
	f := rules.Flow{Name: name, Port: to.Port()}
	if name == "" { // or the address stands for it
		c.about(&f, to.Addr())
	}
	return c.match(set, f, app)
}

// about is what is known of an address.
func (c *Client) about(f *rules.Flow, a netip.Addr) {
	f.Addr = a
	if r := c.resolver.Load(); r != nil {
		f.Name, _ = r.NameOf(a)
	}
}

// match asks the kernel whose the socket is, if a rule wants to know.
func (c *Client) match(set *rules.Set, f rules.Flow, app owner.Socket) rules.Action {
	if set.Owners {
		if o, ok := c.owners.Of(app); ok {
			f.UID, f.KnowUID, f.Cgroup = o.UID, true, o.Cgroup
		}
	}
	return set.Match(f).Action
}

// direct connects past the tunnel.
func (c *Client) direct(ctx context.Context, t flow.Target) (flow.Stream, error) {
	d := net.Dialer{Control: c.cfg.Protect}
	addrs := []string{t.String()}
	if r := c.resolver.Load(); r != nil {
		// The system would be told what stands for the name, or would ask whom the name is none of the business of.
		if _, isAddr := t.Addr(); !isAddr && (len(c.cfg.NamesFirst) > 0 || r.Splits(t.Host)) {
			found, err := realAddrs(ctx, r, t.Host)
			if err != nil {
				return nil, err
			}
			addrs = addrs[:0]
			for _, a := range found {
				addrs = append(addrs, netip.AddrPortFrom(a, t.Port).String())
			}
		}
	}
	var first error
	for _, addr := range addrs {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return &directStream{TCPConn: conn.(*net.TCPConn)}, nil
		}
		if first == nil {
			first = flow.Errorf(flow.CodeOf(err), "past the tunnel: %v", err)
		}
	}
	return nil, first
}

// realAddrs are a name's addresses, IPv4's first: who has both reaches them by either.
func realAddrs(ctx context.Context, r *names.Server, name string) ([]netip.Addr, error) {
	v4, err := r.Resolve(ctx, name, false)
	v6, err6 := r.Resolve(ctx, name, true)
	if err != nil && err6 != nil {
		return nil, err
	}
	return append(v4, v6...), nil
}

// unmask is the name that a target's address stands for, if it is such an address.
func (c *Client) unmask(t flow.Target) (flow.Target, error) {
	a, isAddr := t.Addr()
	r := c.resolver.Load()
	if !isAddr || r == nil || !r.Synthetic(a) {
		return t, nil
	}
	name, ok := r.NameOf(a)
	if !ok {
		return t, flow.Errorf(flow.CodeHostUnreach, "the address stands for no name any more")
	}
	return flow.NewTarget(name, t.Port)
}

// directStream is a connection of this machine's own. It implements flow.Stream.
type directStream struct {
	*net.TCPConn

	mu     sync.Mutex
	joined net.Conn // by Join
	reset  bool
}

// Reset implements flow.Stream.
func (s *directStream) Reset(flow.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reset {
		s.reset = true
		abort(s.TCPConn)
		abort(s.joined)
	}
}

// abort resets a connection, if there is one.
func abort(conn net.Conn) {
	if l, ok := conn.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	if conn != nil {
		conn.Close()
	}
}

// Join implements flow.Stream.
func (s *directStream) Join(conn net.Conn) error {
	s.mu.Lock()
	s.joined = conn
	if s.reset {
		abort(conn)
	}
	s.mu.Unlock()
	pass := func(to, from net.Conn) error {
		_, err := io.Copy(to, from)
		if err == nil {
			if c, ok := to.(interface{ CloseWrite() error }); ok {
				err = c.CloseWrite()
			}
		}
		if err != nil {
			s.Reset(flow.CodeReset) // both ends are to see it
		}
		return err
	}
	var wg sync.WaitGroup
	var out error
	wg.Go(func() { out = pass(s.TCPConn, conn) })
	in := pass(conn, s.TCPConn)
	wg.Wait()
	conn.Close()
	s.Close()
	return cmp.Or(in, out)
}
