// Package tun captures what a machine sends by a TUN device: TCP becomes the session's streams, DNS questions are answered
// here, and all else crosses as packets: UDP and echoes, or every protocol where the gateway carries that.
//
//	applications ── TUN ─┬─ TCP ── a socket of this machine's own kernel ── stream.Join ── streams
//	                     ├─ DNS ── Config.Answer
//	                     └─ UDP, ICMP, … ── Config.Decide ─┬─ Config.Send ─── packets ─┬─ Deliver
//	                                                       └─ Config.Direct ─ sockets ─┘
//
// Where addresses stand for names (Config.Synthetic), streams are opened to the name, and packets go to an address of it.
//
// TCP is spoken by the kernel on both sides: a segment from an application is given another source and destination and
// comes back out of the TUN to a socket of ours, and so do our socket's segments on their way back; super-segments stay whole.
// The first segment of a connection waits until the gateway has answered, so that an application hears of a refusal as if
// there were no tunnel.
//
//	tun.go         a Capture: what goes where
//	device*.go     the TUN, with its segmentation offloads; utun.go, that of Apple's systems; plain.go, whole packets
//	segment.go     TCP segments, and their addresses changed in place
//	connect.go     connections: from the first segment to the stream
//	call.go        connections that our socket calls, rather than accepts
//	run.go         runs of datagrams that come as one
//	talk.go        datagrams to names
package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/owner"
	"github.com/godwit-vpn/godwit/internal/packet"
	"github.com/godwit-vpn/godwit/internal/rules"
)

// Config is what a Capture needs.
type Config struct {
	// Device is the TUN; the Capture closes it.
	Device Device
	// Prefix4 and Prefix6 are what the TUN's networks are: the machine has their first host's address, which programs send from,
	// and the second stands for everything else. Either may be missing.
	Prefix4, Prefix6 netip.Prefix
	// Dial has connections end at sockets that call the application, as it calls the far side; where it is nil they end at a
	// listener, which a firewall that lets in nobody new keeps from hearing of them. It is what a Dialer's DialContext does, and
	// takes Linux.
	Dial func(d *net.Dialer, ctx context.Context, network, address string) (net.Conn, error)
	// Outside opens streams.
	Outside flow.Opener
	// Send sends a packet through the session. It does not block or keep the slice.
	Send func(packet []byte) error
	// Decide says what becomes of a packet to an address (an echo's port is 0), or of one to a name, where its address stands for
	// that. app is the application's socket, zero for echoes. Nil sends all of them through the tunnel.
	Decide func(to netip.AddrPort, name string, app owner.Socket) rules.Action
	// Direct sends a packet, which has the TUN's own address, past the tunnel; answers to that address come by Deliver. It does
	// not block or keep the slice. It is needed with Decide.
	Direct func(packet []byte)
	// Inner are the session's own addresses, from which its packets go and to which theirs come; not valid where there is none.
	Inner func() (v4, v6 netip.Addr)
	// Forwards reports whether the gateway carries packets of every protocol; others than UDP and echoes are refused if not.
	Forwards func() bool
	// Online reports whether there is a link now: while there is none, QUIC is told so, and browsers turn to TCP.
	Online func() bool
	// Ours, if not nil, reports whether a connection or a datagram from there is of the session's own links, which are to go out
	// beside the TUN: it is refused, since it would go round for ever.
	Ours func(tcp bool, from netip.AddrPort) bool
	// Answer answers one DNS message, in at most so many bytes; nil is no answer.
	Answer func(ctx context.Context, query []byte, most int) []byte
	// ServeDNS answers DNS over TCP until the connection ends, and closes it.
	ServeDNS func(ctx context.Context, conn net.Conn)
	// NameOf is the name that an address was lately given out for by Answer.
	NameOf func(netip.Addr) (name string, ok bool)
	// Synthetic reports whether an address stands for a name, and is nobody's; nil: none does.
	Synthetic func(netip.Addr) bool
	// Resolve looks up a name's addresses of IPv4, or of IPv6. It is needed with Synthetic.
	Resolve func(ctx context.Context, name string, six bool) ([]netip.Addr, error)
}

// Capture is a TUN whose traffic crosses a session. Safe for concurrent use.
type Capture struct {
	cfg     Config
	local   [2]family // IPv4, IPv6
	conns   conns
	talks   talks
	pieces  packet.Reassembly
	asking  chan struct{} // one token for each DNS question under way
	wg      sync.WaitGroup
	stats   counters
	started atomic.Bool
}

// family is one IP version's addresses on the TUN.
type family struct {
	own, peer netip.Addr       // invalid where the version is not carried
	listener  *net.TCPListener // nil where sockets call
	port      uint16           // the listener's
}

type counters struct {
	opened, refused, packets, questions, dropped atomic.Uint64
}

const (
	// mostQuestions are answered at once; more are dropped, and asked again.
	mostQuestions = 256
	questionTime  = 10 * time.Second
	dnsPort       = 53
	quicPort      = 443
)

// New makes a Capture, and the listeners that its TCP ends at: the TUN has its addresses already.
func New(cfg Config) (*Capture, error) {
	c := &Capture{cfg: cfg, asking: make(chan struct{}, mostQuestions)}
	var listen net.ListenConfig
	listen.SetMultipathTCP(false) // it would be agreed on with us, of whose addresses no other path leads to the far side
	for i, p := range [...]netip.Prefix{cfg.Prefix4, cfg.Prefix6} {
		if !p.IsValid() {
			continue
		}
		f := &c.local[i]
		f.own = p.Masked().Addr().Next()
		if f.peer = f.own.Next(); !p.Contains(f.peer) {
			c.closeListeners()
			return nil, fmt.Errorf("the TUN's network %v has no room for two", p)
		}
		l, err := listen.Listen(context.Background(), "tcp", netip.AddrPortFrom(f.own, 0).String())
		if f.own.Is6() && errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			*f = family{} // the machine has IPv6 switched off, and gives nobody such addresses
			continue
		}
		if err != nil {
			c.closeListeners()
			return nil, fmt.Errorf("listening on the TUN: %w", err)
		}
		if cfg.Dial != nil {
			l.Close() // the version is there
			continue
		}
		f.listener, f.port = l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	c.conns.init()
	c.talks.init()
	return c, nil
}

func (c *Capture) closeListeners() {
	for _, f := range c.local {
		if f.listener != nil {
			f.listener.Close()
		}
	}
}

// Close closes a Capture that is not to run.
func (c *Capture) Close() error {
	c.closeListeners()
	return c.cfg.Device.Close()
}

// Run carries traffic until ctx is done, and then returns nil; or until the TUN fails. Either way it is closed, connections
// are reset, and no goroutine is left.
func (c *Capture) Run(ctx context.Context) error {
	if c.started.Swap(true) {
		return errors.New("the capture runs already")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.cfg.Device.Close() })
	defer stop()
	for i := range c.local {
		if f := &c.local[i]; f.listener != nil {
			c.wg.Go(func() { c.accept(ctx, f) })
		}
	}
	c.wg.Go(func() { c.sweep(ctx) })
	err := c.read(ctx)
	asked := ctx.Err() != nil
	cancel()
	c.cfg.Device.Close()
	c.closeListeners()
	c.conns.resetAll()
	c.wg.Wait()
	if asked {
		return nil
	}
	return err
}

// read takes packets off the TUN.
func (c *Capture) read(ctx context.Context) error {
	buf, room := make([]byte, maxFrame), make([]byte, maxFrame)
	for {
		f, err := c.cfg.Device.Read(buf)
		if err != nil {
			return fmt.Errorf("reading the TUN: %w", err)
		}
		c.frame(ctx, f, room)
	}
}

// frame takes what the TUN has brought. room is as long as it may be.
func (c *Capture) frame(ctx context.Context, f Frame, room []byte) {
	if isRun(f) {
		cutRun(f, room, func(b []byte) { c.packet(ctx, Frame{Packet: b}) })
	} else {
		c.packet(ctx, f)
	}
}

// packet takes one packet off the machine's hands.
func (c *Capture) packet(ctx context.Context, f Frame) {
	if s, ok := parseSegment(f.Packet); ok {
		c.segment(ctx, f, s)
		return
	}
	b := f.Packet
	if whole, isPiece := c.pieces.Add(b, time.Now()); isPiece {
		if whole == nil {
			return
		}
		b = whole
	} else if f.Partial {
		f.complete()
	}
	p, err := packet.Parse(b)
	if err != nil || !c.isOwn(p.Src) {
		c.stats.dropped.Add(1)
		return
	}
	forwarded := false // it takes a gateway that carries every protocol
	switch p.Proto {
	case packet.ProtoUDP:
		u, err := p.UDP()
		switch {
		case err != nil:
			c.stats.dropped.Add(1)
			return
		case c.ours(false, u.Src):
			c.stats.dropped.Add(1)
			c.unreachable(&p, packet.Prohibited)
			return
		case u.Dst.Port() == dnsPort:
			c.question(ctx, u)
			return
		case !oneHost(p.Dst):
			c.stats.dropped.Add(1)
			return
		}
	case packet.ProtoICMP, packet.ProtoICMPv6:
		m, err := p.ICMP()
		forwarded = m.Kind != packet.EchoRequest
		if err != nil || !oneHost(p.Dst) || forwarded && !c.cfg.Forwards() {
			c.stats.dropped.Add(1)
			return
		}
	default:
		if !oneHost(p.Dst) {
			c.stats.dropped.Add(1)
			return
		}
		forwarded = true
		if p.Proto == packet.ProtoTCP || !c.cfg.Forwards() {
			c.unreachable(&p, packet.Prohibited)
			return
		}
	}
	name := ""
	if c.synthetic(p.Dst) {
		var ok bool
		if name, ok = c.cfg.NameOf(p.Dst); !ok {
			c.unreachable(&p, packet.NoHost)
			return
		}
	}
	way := c.decide(&p, name)
	switch {
	case way == rules.Block, way == rules.Direct && forwarded: // past the tunnel there are sockets only
		c.unreachable(&p, packet.Prohibited)
	case way == rules.Tunnel && p.Proto == packet.ProtoUDP && keyOf(&p).to.Port() == quicPort && !c.cfg.Online():
		c.unreachable(&p, packet.NoPort)
	case name != "":
		c.toName(ctx, &p, b, name, way == rules.Direct)
	default:
		c.cross(&p, b, netip.Addr{}, way == rules.Direct)
	}
}

// decide says what becomes of an application's packet, which is to a name if that is not empty.
func (c *Capture) decide(p *packet.Packet, name string) rules.Action {
	if c.cfg.Decide == nil {
		return rules.Tunnel
	}
	k, app := keyOf(p), owner.Socket{}
	if p.Proto == packet.ProtoUDP {
		app = owner.Socket{UDP: true, Local: netip.AddrPortFrom(p.Src, k.port), Remote: k.to}
	}
	return c.cfg.Decide(k.to, name, app)
}

// cross sends an application's packet through the session or past it: to another address than its own, if that is valid.
func (c *Capture) cross(p *packet.Packet, b []byte, to netip.Addr, direct bool) {
	own, dst := p.Src, p.Dst
	if direct {
		c.stats.packets.Add(1)
		p.Readdress(netip.Addr{}, to)
		c.cfg.Direct(b)
		return
	}
	inner := c.innerOf(own)
	if !inner.IsValid() {
		c.unreachable(p, packet.NoRoute)
		return
	}
	c.stats.packets.Add(1)
	p.ReaddressQuotedDst(own, inner)
	p.Readdress(inner, to)
	if err := c.cfg.Send(b); err != nil {
		p.Readdress(own, dst) // what it quotes is not needed any more: no error is told about an error
		c.unreachable(p, packet.NoRoute)
	}
}

func (c *Capture) ours(tcp bool, from netip.AddrPort) bool {
	return c.cfg.Ours != nil && c.cfg.Ours(tcp, from)
}

func (c *Capture) synthetic(a netip.Addr) bool { return c.cfg.Synthetic != nil && c.cfg.Synthetic(a) }

// innerOf is the session's address that stands for one of the TUN's.
func (c *Capture) innerOf(own netip.Addr) netip.Addr {
	v4, v6 := c.cfg.Inner()
	if own.Is4() {
		return v4
	}
	return v6
}

// Deliver takes a packet from the session, to one of its addresses, or one that came past it, to the TUN's own, and readdresses
// it in place.
func (c *Capture) Deliver(b []byte) {
	p, err := packet.Parse(b)
	if err != nil || p.Proto == packet.ProtoTCP {
		c.stats.dropped.Add(1)
		return
	}
	own := c.local[0].own
	if p.Dst.Is6() {
		own = c.local[1].own
	}
	at := p.Dst
	if !own.IsValid() || at != own && at != c.innerOf(own) {
		c.stats.dropped.Add(1)
		return
	}
	from, about := c.talks.seems(&p)
	p.ReaddressQuote(at, own, about)
	p.Readdress(from, own)
	c.stats.packets.Add(1)
	c.write(Frame{Packet: b})
}

func (c *Capture) write(f Frame) {
	if err := c.cfg.Device.Write(f); err != nil {
		c.stats.dropped.Add(1)
	}
}

// unreachable tells whoever sent p that it goes nowhere.
func (c *Capture) unreachable(p *packet.Packet, why packet.Reason) {
	var buf [1280]byte
	if b, ok := packet.AppendUnreachable(buf[:0], p.Dst, why, p); ok {
		c.write(Frame{Packet: b})
	}
}

// question has a DNS question answered, whoever it was to.
func (c *Capture) question(ctx context.Context, u packet.UDP) {
	select {
	case c.asking <- struct{}{}:
	default:
		c.stats.dropped.Add(1)
		return
	}
	c.stats.questions.Add(1)
	src, dst, query := u.Src, u.Dst, append([]byte(nil), u.Payload...)
	c.wg.Go(func() {
		defer func() { <-c.asking }()
		ctx, cancel := context.WithTimeout(ctx, questionTime)
		defer cancel()
		answer := c.cfg.Answer(ctx, query, packet.MaxUDPPayload(src.Addr()))
		if answer == nil {
			return
		}
		if b, err := packet.AppendUDP(nil, dst, src, answer); err == nil {
			c.write(Frame{Packet: b})
		}
	})
}

func (c *Capture) isOwn(a netip.Addr) bool {
	return a.IsValid() && (a == c.local[0].own || a == c.local[1].own)
}

func oneHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Stats are counts since the beginning, never of whom.
type Stats struct {
	Connections int    `json:"connections"` // now
	Opened      uint64 `json:"connections_opened"`
	Refused     uint64 `json:"connections_refused"`
	Packets     uint64 `json:"packets"`
	Questions   uint64 `json:"questions"`
	Dropped     uint64 `json:"packets_dropped"`
}

// Stats returns the counters as they are now.
func (c *Capture) Stats() Stats {
	return Stats{Opened: c.stats.opened.Load(), Refused: c.stats.refused.Load(), Packets: c.stats.packets.Load(),
		Questions: c.stats.questions.Load(), Dropped: c.stats.dropped.Load(), Connections: c.conns.len()}
}
