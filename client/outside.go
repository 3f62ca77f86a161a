package client

import (
	"context"
	"errors"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/rules"
	"github.com/godwit-vpn/godwit/internal/session"
)

// A Client is what captures speak to.
var _ flow.Outside = (*Client)(nil)

// Open implements flow.Opener, for captures; embedders use Dial.
func (c *Client) Open(ctx context.Context, t flow.Target, early bool) (flow.Stream, error) {
	st, err := c.open(ctx, t, early)
	if err == nil {
		c.tell(c.used)
	}
	return st, err
}

func (c *Client) open(ctx context.Context, t flow.Target, early bool) (flow.Stream, error) {
	t, err := c.unmask(t) // programs that use the proxy have asked us for names, too
	if err != nil {
		return nil, err
	}
	switch c.decide(t, owner.From(ctx)) {
	case rules.Block:
		return nil, errBlocked
	case rules.Direct:
		return c.direct(ctx, t)
	}
	for {
		s, err := c.current(ctx)
		if err != nil {
			return nil, err
		}
		if err := c.familyError(t); err != nil {
			return nil, err
		}
		st, err := s.Open(ctx, t, early)
		if !errors.Is(err, session.ErrLeaving) {
			return st, err
		}
	}
}

// familyError says at once what the gateway would say a round trip later: that it cannot reach this kind of address.
func (c *Client) familyError(t flow.Target) error {
	a, ok := t.Addr()
	if !ok {
		return nil
	}
	want := flow.IPv6
	if a.Is4() {
		want = flow.IPv4
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.families != 0 && !c.families.Has(want) {
		return flow.Errorf(flow.CodeNetUnreach, "the gateway cannot reach addresses of this family")
	}
	return nil
}

// Resolve looks a name up at the gateway. It implements flow.Resolver.
func (c *Client) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	for {
		s, err := c.current(ctx)
		if err != nil {
			return nil, err
		}
		addrs, err := s.Resolve(ctx, name)
		if !errors.Is(err, session.ErrLeaving) {
			return addrs, err
		}
	}
}
