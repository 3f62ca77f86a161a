package gateway

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// visit takes one connection from behind the door to the session it belongs to.
func (g *Gateway) visit(ctx context.Context, name string, conn transport.Conn) {
	conn.SetDeadline(time.Now().Add(transport.HandshakeTimeout))
	visitor, err := link.Accept(conn, name)
	if err != nil {
		conn.Close()
		return
	}
	v, cert, cause := g.admit(ctx, visitor)
	if cause != 0 {
		g.count.refused.Add(1)
		link.Refuse(conn, cause, retryAfter(cause))
		conn.Close()
		return
	}
	err = link.Welcome(conn, wire.Welcome{
		Flags: v.flags, Features: uint64(v.session.Shape()), Next: v.session.Next(), Addr4: v.addr4, Addr6: v.addr6, Families: g.cfg.Egress.Families(),
		Sleep: uint32(g.sleep() / time.Second), Window: session.DefaultWindow, Cert: cert,
	})
	if err != nil {
		conn.Close()
		return
	}
	conn.SetDeadline(time.Time{})
	g.count.admitted.Add(1)
	v.session.Attach(conn, session.LinkOptions{Transport: name, RTT: roundTrip(conn), Confirmed: true,
		PeerNext: visitor.Hello.Next})
	if by, yes := g.draining(); yes { // it was on its way when the others were asked to leave
		v.session.Drain(time.Until(by))
	}
}

// roundTrip is what the kernel knows of the connection's path, if it tells.
func roundTrip(conn transport.Conn) time.Duration {
	if t, ok := conn.(transport.Tuned); ok {
		return t.Measure().RTT
	}
	return 0
}

func (g *Gateway) sleep() time.Duration {
	if g.cfg.Sleep == 0 {
		return session.DefaultSleep
	}
	return g.cfg.Sleep
}

// admission is a session that a visitor may attach to.
type admission struct {
	*guest
	flags uint16 // the WELCOME's
}

// admit decides about a visitor: its session and, if it asked for one, its new certificate, or the cause of a refusal.
func (g *Gateway) admit(ctx context.Context, visitor *link.Visitor) (a admission, cert []byte, cause wire.Cause) {
	h := visitor.Hello
	if h.Version != wire.Version {
		return a, nil, wire.CauseVersion
	}
	if !visitor.Proven {
		return a, nil, wire.CauseProof
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	presented := h.Cert
	now := time.Now()
	if h.Flags&wire.HelloEnrol != 0 {
		var err error
		if cert, err = g.cfg.Control.Enrol(ctx, visitor.KeyID, ed25519.PublicKey(h.DeviceKey[:])); err != nil {
			return a, nil, causeOf(err)
		}
		g.count.enrolled.Add(1)
		presented = cert
	}
	if len(presented) == 0 {
		// Whoever only wants to know whether the door opens learns what the access key is worth, and takes no place of it.
		if err := g.cfg.Control.Check(device.IDOf(h.DeviceKey[:]), visitor.KeyID, now); err != nil {
			return a, nil, causeOf(err)
		}
	}
	grant, err := g.cfg.Control.Authorize(presented, now)
	renew := h.Flags&wire.HelloRenew != 0
	if errors.Is(err, device.ErrExpired) && renew {
		err = nil // good for being renewed, and for nothing else
	}
	if err != nil {
		return a, nil, causeOf(err)
	}
	if !grant.Public.Equal(ed25519.PublicKey(h.DeviceKey[:])) || grant.KeyID != visitor.KeyID {
		return a, nil, wire.CauseProof
	}
	if renew {
		if cert, err = g.cfg.Control.Renew(ctx, presented); err != nil {
			return a, nil, causeOf(err)
		}
		if grant, err = g.cfg.Control.Authorize(cert, now); err != nil {
			return a, nil, causeOf(err)
		}
	}
	v, resumed, cause := g.sessionFor(h, grant)
	if cause != 0 {
		return a, nil, cause
	}
	// A revocation that came in between has not found the session yet: see control.Service.Authorize.
	if err := g.cfg.Control.Check(grant.Device, grant.KeyID, now); err != nil {
		go v.session.Close(0)
		return a, nil, causeOf(err)
	}
	a.guest = v
	if resumed {
		a.flags |= wire.WelcomeResumed
	}
	if _, ok := g.cfg.Egress.(flow.Forwarder); ok {
		a.flags |= wire.WelcomeForward
	}
	return a, cert, 0
}

// causeOf names the cause of control's no.
func causeOf(err error) wire.Cause {
	for _, c := range []struct {
		err   error
		cause wire.Cause
	}{
		{control.ErrKeyUnknown, wire.CauseKeyUnknown},
		{control.ErrKeyRevoked, wire.CauseKeyRevoked},
		{control.ErrKeyExpired, wire.CauseKeyExpired},
		{control.ErrTooManyDevices, wire.CauseTooManyDevices},
		{control.ErrDeviceRevoked, wire.CauseDeviceRevoked},
		{control.ErrQuota, wire.CauseQuota},
		{control.ErrOtherNetwork, wire.CauseProof},
		{device.ErrExpired, wire.CauseCertExpired},
		{device.ErrNotYetValid, wire.CauseClock},
		{device.ErrBadSignature, wire.CauseProof},
		{device.ErrMalformed, wire.CauseProof},
		{device.ErrVersion, wire.CauseVersion},
	} {
		if errors.Is(err, c.err) {
			return c.cause
		}
	}
	return wire.CauseNoControl
}

// retryAfter is when another try makes sense; 0 is never with these credentials.
func retryAfter(c wire.Cause) time.Duration {
	switch c {
	case wire.CauseBusy, wire.CauseNoControl:
		return 30 * time.Second
	case wire.CauseSessionUnknown, wire.CauseCertExpired:
		return time.Second // at once, in another way
	case wire.CauseClock:
		return time.Minute
	case wire.CauseQuota:
		return untilNextMonth(time.Now())
	}
	return 0
}
