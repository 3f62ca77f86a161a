package tun

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// A connection's life:
//
//	SYN ──> asking: the segment is held, the gateway dials
//	          ├─ it answers ──> open: the segment goes on to our end, a listener, or a socket that calls, and the stream is joined
//	          └─ it fails ──> RST, or what else there is to say; forgotten
//	the end ──> closing: the kernels' last segments pass for a while; forgotten
//
// At our end a connection is known by its port: each has one of the peer's address.

type state uint8

const (
	asking state = iota
	open
	closing
)

// connection is one of an application's, guarded by conns.mu but for what never changes.
type connection struct {
	src, dst netip.AddrPort
	port     uint16 // of the peer's address
	own      *family

	state  state
	at     uint16 // our end's port; 0 until it is known
	held   Frame  // the first segment, until our end has it
	first  segment
	stream flow.Stream // from open on, until it is joined; nil if DNS is answered here
	taken  bool        // our end is connected
	cancel context.CancelFunc
	since  time.Time // of the state
}

const (
	// askTime is how long the gateway has: applications give up after about two minutes.
	askTime = 2 * time.Minute
	// acceptTime is how long the machine's own kernel may take at our end, and the application's, which lose nothing.
	acceptTime = 30 * time.Second
	// closingTime is how long last segments may come: Linux's TIME-WAIT.
	closingTime = 60 * time.Second
	// mostConns bounds both families' connections together; each has a port. When there are as many, the oldest that have ended
	// are forgotten sooner.
	mostConns = 32 << 10
	firstPort = 1024
	sweepTime = 5 * time.Second
)

type pair struct{ src, dst netip.AddrPort }

// conns are all connections there are.
type conns struct {
	mu     sync.Mutex
	byPair map[pair]*connection
	byPort map[portKey]*connection
	next   uint16
	ended  []*connection // in closing, the oldest first; some are forgotten already
}

type portKey struct {
	port uint16
	v6   bool
}

func (t *conns) init() {
	t.byPair, t.byPort = make(map[pair]*connection), make(map[portKey]*connection)
	t.next = firstPort
}

func (t *conns) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byPair)
}

// addLocked gives a connection a port; false if there is none left.
func (t *conns) addLocked(n *connection) bool {
	for len(t.byPort) >= mostConns && len(t.ended) > 0 {
		t.forgetLocked(t.ended[0])
		t.ended = t.ended[1:]
	}
	if len(t.byPort) >= mostConns {
		return false
	}
	v6 := n.src.Addr().Is6()
	for t.byPort[portKey{t.next, v6}] != nil {
		t.turn()
	}
	n.port = t.next
	t.turn()
	t.byPort[portKey{n.port, v6}] = n
	t.byPair[pair{n.src, n.dst}] = n
	return true
}

func (t *conns) turn() {
	if t.next++; t.next < firstPort {
		t.next = firstPort
	}
}

func (t *conns) removeLocked(n *connection) {
	delete(t.byPort, portKey{n.port, n.src.Addr().Is6()})
	if p := (pair{n.src, n.dst}); t.byPair[p] == n {
		delete(t.byPair, p)
	}
	if n.cancel != nil {
		n.cancel()
	}
	if n.stream != nil {
		n.stream.Reset(flow.CodeReset)
	}
}

// endLocked has a connection stay for its last segments.
func (t *conns) endLocked(n *connection) {
	n.state, n.since = closing, time.Now()
	t.ended = append(t.ended, n)
}

// forgetLocked removes one that has ended, unless another has its port already.
func (t *conns) forgetLocked(n *connection) {
	if t.byPort[portKey{n.port, n.src.Addr().Is6()}] == n {
		t.removeLocked(n)
	}
}

func (t *conns) resetAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.byPort {
		t.removeLocked(n)
	}
}

// sweep forgets what has ended, and what came to nothing.
func (c *Capture) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			c.conns.mu.Lock()
			t := &c.conns
			for len(t.ended) > 0 && now.Sub(t.ended[0].since) > closingTime {
				t.forgetLocked(t.ended[0])
				t.ended = t.ended[1:]
			}
			for _, n := range t.byPort {
				if n.state == open && !n.taken && now.Sub(n.since) > acceptTime {
					t.removeLocked(n)
				}
			}
			c.conns.mu.Unlock()
			c.talks.sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

// segment carries one of an application's, or of our end's.
func (c *Capture) segment(ctx context.Context, f Frame, s segment) {
	own := &c.local[0]
	if s.src.Addr().Is6() {
		own = &c.local[1]
	}
	switch {
	case s.src.Addr() != own.own:
		c.stats.dropped.Add(1)
	case s.dst.Addr() == own.peer:
		c.fromOurs(f, s, own)
	default:
		c.fromApplication(ctx, f, s, own)
	}
}

func (c *Capture) fromOurs(f Frame, s segment, own *family) {
	c.conns.mu.Lock()
	n := c.conns.byPort[portKey{s.dst.Port(), s.src.Addr().Is6()}]
	if n == nil || n.state == asking || n.at != s.src.Port() {
		c.conns.mu.Unlock()
		if own.listener == nil || s.src.Port() != own.port { // somebody connects to the peer, whose address is nobody's
			c.writeReset(f, s)
		}
		return
	}
	answer, on := Frame{}, true
	if own.listener == nil && s.flags&flagSYN != 0 {
		answer, on = n.callsLocked(f, s)
	}
	c.conns.mu.Unlock()
	if on {
		s.readdress(f, n.dst, n.src)
		c.write(f)
	} else if answer.Packet != nil {
		c.write(answer)
	}
}

func (c *Capture) fromApplication(ctx context.Context, f Frame, s segment, own *family) {
	begins := s.flags&(flagSYN|flagACK|flagRST) == flagSYN
	if begins && c.ours(true, s.src) {
		c.stats.dropped.Add(1)
		c.writeReset(f, s)
		return
	}
	t := &c.conns
	t.mu.Lock()
	n := t.byPair[pair{s.src, s.dst}]
	if n != nil && begins && n.state == closing {
		t.removeLocked(n) // the same ports again
		n = nil
	}
	switch {
	case n == nil && !begins:
		t.mu.Unlock()
		c.writeReset(f, s) // one from before the tunnel
	case n == nil:
		n = &connection{src: s.src, dst: s.dst, own: own, at: own.port, first: s, held: f, since: time.Now()}
		n.held.Packet = append([]byte(nil), f.Packet...)
		if !t.addLocked(n) {
			t.mu.Unlock()
			c.writeReset(f, s)
			return
		}
		asks, cancel := context.WithTimeout(ctx, askTime)
		n.cancel = cancel
		t.mu.Unlock()
		c.wg.Go(func() {
			if c.ask(asks, n) && own.listener == nil {
				c.call(ctx, n)
			}
		})
	case n.state == asking || n.at == 0:
		if s.flags&flagRST != 0 {
			t.removeLocked(n)
		}
		t.mu.Unlock() // it is held already
	default:
		t.mu.Unlock()
		s.readdress(f, netip.AddrPortFrom(own.peer, n.port), netip.AddrPortFrom(own.own, n.at))
		c.write(f)
	}
}

func (c *Capture) writeReset(f Frame, s segment) {
	if b := s.reset(f.Packet); b != nil {
		c.write(Frame{Packet: b})
	}
}

// ask has the gateway dial, and lets the connection begin or tells the application why not. It reports whether it begins.
func (c *Capture) ask(ctx context.Context, n *connection) bool {
	st, err := c.open(ctx, n)
	t := &c.conns
	t.mu.Lock()
	if t.byPort[portKey{n.port, n.src.Addr().Is6()}] != n { // given up meanwhile
		t.mu.Unlock()
		if err == nil && st != nil {
			st.Reset(flow.CodeReset)
		}
		return false
	}
	n.cancel()
	n.cancel = nil
	if err != nil {
		t.removeLocked(n)
		t.mu.Unlock()
		c.stats.refused.Add(1)
		c.refuse(n, flow.CodeOf(err))
		return false
	}
	n.state, n.stream, n.since = open, st, time.Now()
	c.stats.opened.Add(1)
	if n.own.listener == nil {
		t.mu.Unlock()
		return true
	}
	n.first.readdress(n.held, netip.AddrPortFrom(n.own.peer, n.port), netip.AddrPortFrom(n.own.own, n.at))
	held := n.held
	n.held = Frame{}
	t.mu.Unlock()
	c.write(held)
	return true
}

// open opens the connection's stream; there is none, and no error, for DNS over TCP, which is answered here.
//
// An application is told that it is connected before the gateway has dialled where it has asked us for the name, and speaks
// first (flow.Target.Early): one that tries addresses, or ports, hears the truth.
func (c *Capture) open(ctx context.Context, n *connection) (flow.Stream, error) {
	if n.dst.Port() == dnsPort && c.cfg.ServeDNS != nil {
		return nil, nil
	}
	ctx = owner.With(ctx, owner.Socket{Local: n.src, Remote: n.dst})
	name, ok := c.cfg.NameOf(n.dst.Addr())
	named, notName := flow.NewTarget(name, n.dst.Port())
	early := ok && notName == nil && named.Early()
	if c.synthetic(n.dst.Addr()) {
		if !ok || notName != nil {
			return nil, flow.Errorf(flow.CodeHostUnreach, "the address stands for no name any more")
		}
		return c.cfg.Outside.Open(ctx, named, early)
	}
	t, err := flow.NewTarget(n.dst.Addr().String(), n.dst.Port())
	if err != nil {
		return nil, err
	}
	return c.cfg.Outside.Open(ctx, t, early)
}

// refuse tells the application why there is no connection.
func (c *Capture) refuse(n *connection, why flow.Code) {
	f := n.held
	f.complete()
	reason := packet.NoHost
	switch why {
	case flow.CodeTimeout:
		return // nobody answers
	case flow.CodeNetUnreach:
		reason = packet.NoRoute
	case flow.CodeHostUnreach, flow.CodeNameNotFound, flow.CodeNameFailed:
	case flow.CodeDenied:
		reason = packet.Prohibited
	default:
		c.writeReset(f, n.first)
		return
	}
	if p, err := packet.Parse(f.Packet); err == nil {
		c.unreachable(&p, reason)
	}
}

// accept joins the listener's connections to their streams.
func (c *Capture) accept(ctx context.Context, own *family) {
	for {
		conn, err := own.listener.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				continue
			}
			select { // out of descriptors, perhaps
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			continue
		}
		n := c.accepted(conn, own)
		if n == nil {
			conn.SetLinger(0)
			conn.Close()
			continue
		}
		c.wg.Go(func() { c.carry(ctx, n, conn) })
	}
}

// accepted is the connection that was accepted; nil if it is none of ours.
func (c *Capture) accepted(conn *net.TCPConn, own *family) *connection {
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	if from.Addr().Unmap() != own.peer {
		return nil
	}
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	n := c.conns.byPort[portKey{from.Port(), own.own.Is6()}]
	if n == nil || n.state != open || n.taken {
		return nil
	}
	n.taken = true
	return n
}

// carry carries a connection to its end.
func (c *Capture) carry(ctx context.Context, n *connection, conn *net.TCPConn) {
	c.conns.mu.Lock()
	st := n.stream
	n.stream = nil // ours now
	c.conns.mu.Unlock()
	if st == nil {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		c.cfg.ServeDNS(ctx, conn)
		stop()
	} else {
		stop := context.AfterFunc(ctx, func() { st.Reset(flow.CodeLocalShutdown) })
		st.Join(conn)
		stop()
	}
	c.conns.mu.Lock()
	if c.conns.byPort[portKey{n.port, n.src.Addr().Is6()}] == n {
		c.conns.endLocked(n)
	}
	c.conns.mu.Unlock()
}
