package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// sessionKey finds a session: a session id alone opens nothing.
type sessionKey struct {
	device device.ID
	id     wire.SessionID
}

// guest is a session and the device it belongs to.
type guest struct {
	session *session.Session
	device  device.ID
	keyID   [8]byte
	addr4   netip.Addr
	addr6   netip.Addr
	began   time.Time
	sink    flow.PacketSink
	ends    atomic.Int64  // when its authority does, in seconds since 1970
	dials   chan struct{} // its device's, as many as may be under way
	asks    chan struct{} // likewise, streams of DNS messages
	counted uint64        // bytes, of what the session carried; guarded by usage.mu
}

// turn is what the sessions of one device share.
type turn struct {
	member   *session.Member
	dials    chan struct{}
	asks     chan struct{}
	sessions int
}

// joinLocked finds or makes what a device's sessions share.
func (g *Gateway) joinLocked(id device.ID) *turn {
	t := g.turns[id]
	if t == nil {
		t = &turn{member: g.gate.Join(), dials: make(chan struct{}, maxDeviceDials),
			asks: make(chan struct{}, maxDeviceAsks)}
		g.turns[id] = t
	}
	t.sessions++
	return t
}

func (g *Gateway) leaveLocked(id device.ID) {
	if t := g.turns[id]; t != nil {
		if t.sessions--; t.sessions == 0 {
			delete(g.turns, id)
		}
	}
}

func (v *guest) until() time.Time { return time.Unix(v.ends.Load(), 0) }

// sessionFor finds the session that a HELLO names, or makes it if it is new.
func (g *Gateway) sessionFor(h wire.Hello, grant control.Grant) (v *guest, resumed bool, cause wire.Cause) {
	key := sessionKey{grant.Device, h.Session}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return nil, false, wire.CauseBusy
	}
	if v := g.sessions[key]; v != nil {
		v.ends.Store(grant.Until.Unix())
		return v, true, 0
	}
	if h.Flags&wire.HelloNew == 0 {
		return nil, false, wire.CauseSessionUnknown
	}
	g.makeRoomLocked(grant.Device)
	v = &guest{device: grant.Device, keyID: grant.KeyID, began: time.Now()}
	v.ends.Store(grant.Until.Unix())
	t := g.joinLocked(grant.Device)
	v.dials, v.asks = t.dials, t.asks
	v.session = session.New(session.Config{
		Role: session.Gateway, ID: h.Session, Pool: g.pool, Logger: g.log, Shape: shape.Of(h.Features & wire.FeatureShape),
		Grace: g.cfg.Grace, Sleep: g.cfg.Sleep, Turn: t.member,
		Accept:  func(st *session.Stream, t flow.Target) { g.serve(v, st, t) },
		Resolve: g.cfg.Egress.Resolve,
		Packet:  func(p []byte) { v.packet(p) },
	})
	if !g.addressLocked(v) {
		g.leaveLocked(grant.Device)
		go v.session.Close(flow.CodeBusy)
		return nil, false, wire.CauseBusy
	}
	g.sessions[key] = v
	g.addrs[v.addr4.As4()] = v
	context.AfterFunc(v.session.Context(), func() { g.forget(key, v) })
	return v, false, 0
}

// makeRoomLocked ends what a device's earlier runs left behind: a client that begins a new session has no use for one
// without links, and is to have its addresses. Of those with links, which only copies of a device's key can have, the oldest
// goes if there are many.
func (g *Gateway) makeRoomLocked(id device.ID) {
	var attached []*guest
	for _, v := range g.sessions {
		if v.device != id {
			continue
		}
		if v.session.Status().Detached.IsZero() {
			attached = append(attached, v)
		} else {
			v.sink.Close()
			g.freeLocked(v)
			go v.session.Close(flow.CodeSessionLost)
		}
	}
	if len(attached) >= maxDeviceSessions {
		oldest := slices.MinFunc(attached, func(a, b *guest) int { return a.began.Compare(b.began) })
		go oldest.session.Close(flow.CodeSessionLost)
	}
}

// forget drops all that is known of a session that has ended.
func (g *Gateway) forget(key sessionKey, v *guest) {
	v.sink.Close()
	g.usage.take(v)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(v.device)
	delete(g.sessions, key)
	g.freeLocked(v)
	g.left = time.Now()
}

// freeLocked gives a session's addresses back, unless they are another's by now.
func (g *Gateway) freeLocked(v *guest) {
	if a4 := v.addr4.As4(); g.addrs[a4] == v {
		delete(g.addrs, a4)
	}
}

// addressLocked chooses the session's tunnel addresses, and opens its way out for packets: the same for a device whenever
// they are free, so that what it calls itself inside the tunnel survives a restart of the gateway, which keeps no list. IPv4
// lies in 100.64.0.0/10 (RFC 6598), but for the first 256 and the services of clouds, IPv6 in a unique local /64 of the
// network's own (RFC 4193).
func (g *Gateway) addressLocked(v *guest) bool {
	send := func(p []byte) { v.session.SendPacket(p) }
	for try := range 64 {
		h := sha256.Sum256(append(append([]byte("godwit tunnel address v1"), byte(try)), v.device[:]...))
		n := binary.BigEndian.Uint32(h[:])&(1<<22-1) | 100<<24 | 64<<16
		a4 := [4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
		if a4[3] == 0 || a4[3] == 255 || n>>8 == 100<<16|64<<8 || n>>16 == 100<<8|100 || g.addrs[a4] != nil {
			continue
		}
		var a6 [16]byte
		net := sha256.Sum256(append([]byte("godwit tunnel network v1"), g.cfg.Network[:]...))
		a6[0] = 0xfd
		copy(a6[1:8], net[:7])
		copy(a6[8:], h[8:16])
		v.addr4, v.addr6 = netip.AddrFrom4(a4), netip.AddrFrom16(a6)
		f, ok := g.cfg.Egress.(flow.Forwarder)
		if !ok {
			v.sink = g.cfg.Egress.Packets(send)
			return true
		}
		var err error
		if v.sink, err = f.Forward(v.addr4, v.addr6, send); err == nil {
			return true
		} else if !errors.Is(err, fs.ErrExist) {
			g.log.Error("the kernel does not carry a session's packets: sockets do", "err", err)
			v.sink = g.cfg.Egress.Packets(send)
			return true
		}
	}
	return false
}

// packet passes on a packet whose source is the session's own address, and no other.
func (v *guest) packet(p []byte) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4 && netip.AddrFrom4([4]byte(p[12:16])) == v.addr4:
	case len(p) >= 40 && p[0]>>4 == 6 && netip.AddrFrom16([16]byte(p[8:24])) == v.addr6:
	default:
		return
	}
	v.sink.WritePacket(p)
}

// dialTimeout bounds a dial beyond the egress's own limits.
const dialTimeout = 30 * time.Second

// serve carries one stream from its OPEN to its end.
func (g *Gateway) serve(v *guest, st *session.Stream, asked flow.Target) {
	if ask, ok := wire.ParseBrowserAsk(asked.Host); ok {
		g.answer(v, st, ask)
		return
	}
	target, err := flow.NewTarget(asked.Host, asked.Port)
	if err != nil {
		st.Answer(err)
		return
	}
	if target == flow.ResolverTarget {
		select {
		case v.asks <- struct{}{}:
			defer func() { <-v.asks }()
		default:
			st.Answer(&flow.Error{Code: flow.CodeBusy})
			return
		}
	}
	select {
	case v.dials <- struct{}{}:
	default:
		st.Answer(&flow.Error{Code: flow.CodeBusy})
		return
	}
	ctx, cancel := context.WithTimeout(v.session.Context(), dialTimeout)
	st.OnFailure(cancel) // a stream that is given up while it is dialled is not dialled any longer
	conn, err := g.cfg.Egress.Dial(ctx, target)
	cancel()
	<-v.dials
	var fe *flow.Error
	if err != nil && !errors.As(err, &fe) {
		err = &flow.Error{Code: flow.CodeOf(err)}
	}
	if st.Answer(err); err != nil {
		return
	}
	st.Join(conn) // how it ended is the two applications' affair
}

// answer sends a newer profile of a browser, if there is one. It takes the place of one of the device's dials.
func (g *Gateway) answer(v *guest, st *session.Stream, ask wire.BrowserAsk) {
	select {
	case v.dials <- struct{}{}:
		defer func() { <-v.dials }()
	default:
		st.Answer(&flow.Error{Code: flow.CodeBusy})
		return
	}
	var signed []byte
	if g.cfg.Browser != nil {
		signed = g.cfg.Browser(ask.Family, time.Unix(ask.Date, 0))
	}
	if signed == nil {
		st.Answer(&flow.Error{Code: flow.CodeNameNotFound})
		return
	}
	st.Answer(nil)
	st.SetWriteDeadline(time.Now().Add(dialTimeout))
	defer st.SetWriteDeadline(time.Time{})
	if _, err := st.Write(signed); err != nil {
		st.Reset(flow.CodeTimeout)
		return
	}
	st.Close() // what the client says beyond its question resets the stream
}
