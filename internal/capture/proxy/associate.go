package proxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// association is one UDP ASSOCIATE:
//
//	application ─ local (a loopback UDP port) ─ outgoing ─┬──────── ─ outside (a UDP port of the tunnel's address)
//	                                                     └─ names ─┘
//	            └────────────────────────────── incoming ──────────┘
//
// All destinations share the one outside port, so that the mapping is endpoint-independent (RFC 4787), as games and
// calls need. It ends with the TCP connection it was asked for on, or when it has carried nothing for long.
type association struct {
	c       *conn
	local   *net.UDPConn
	outside udpPort
	names   names

	host   netip.Addr                     // the application's; datagrams from elsewhere are dropped
	client atomic.Pointer[netip.AddrPort] // nil until known: the first datagram's source when the request left it open
	moved  atomic.Int64                   // when a datagram last went either way, in nanoseconds since started
	start  time.Time
}

// udpPort is the part of *net.UDPConn that does not allocate. A flow.PacketOpener's port may have it.
type udpPort interface {
	ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error)
	Close() error
}

func asUDPPort(pc net.PacketConn) udpPort {
	if p, ok := pc.(udpPort); ok {
		return p
	}
	return anyPort{pc}
}

// anyPort is a udpPort over any net.PacketConn whose addresses are *net.UDPAddr.
type anyPort struct{ net.PacketConn }

func (p anyPort) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := p.ReadFrom(b)
	at, _ := from.(*net.UDPAddr) // nil is no address
	return n, at.AddrPort(), err
}

func (p anyPort) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return p.WriteTo(b, net.UDPAddrFromAddrPort(to))
}

// maxDatagram is the longest UDP payload there is; a longer one is cut by nobody.
const maxDatagram = 65507

// associate serves a UDP ASSOCIATE to its end. said is where the application will send from, as far as it told.
func (c *conn) associate(said address) {
	if c.sv.associations.Add(1) > int64(c.sv.cfg.MaxAssociations) {
		c.sv.associations.Add(-1)
		c.sv.turnedAway.Add(1)
		c.socksRefuse(replyFailure)
		return
	}
	defer c.sv.associations.Add(-1)

	// The address the application reached us at is one it can reach us at.
	at := c.tcp.LocalAddr().(*net.TCPAddr)
	local, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Zone: at.Zone})
	if err != nil {
		c.sv.log.Warn("proxy cannot listen for datagrams", keyError, err)
		c.socksRefuse(replyFailure)
		return
	}
	defer local.Close()
	outside, err := c.listenOutside()
	if err != nil {
		c.socksRefuse(socksReply(flow.CodeOf(err)))
		return
	}
	defer outside.Close()
	bound := local.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := c.Write(appendReply(nil, replySucceeded, bound)); err != nil {
		return
	}

	a := &association{c: c, local: local, outside: asUDPPort(outside), start: time.Now()}
	a.names = names{resolver: c.sv.cfg.Outside, out: a.sendNamed, dropped: a.drop}
	a.host = plain(c.tcp.RemoteAddr().(*net.TCPAddr).AddrPort()).Addr()
	if said.port != 0 {
		// Of what it told only the port counts: behind a name or a wrong address it is still the one on this
		// connection.
		client := netip.AddrPortFrom(a.host, said.port)
		a.client.Store(&client)
	}
	a.run()
}

func (c *conn) listenOutside() (net.PacketConn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.sv.cfg.OpenTimeout)
	defer cancel()
	return c.sv.cfg.Outside.ListenPacket(ctx)
}

// run carries datagrams until the TCP connection ends, nothing moves for too long, or a socket fails.
func (a *association) run() {
	ctx, cancel := context.WithCancel(a.c.ctx)
	unblock := context.AfterFunc(ctx, func() {
		a.c.Close()
		a.local.Close()
		a.outside.Close()
	})
	defer unblock()

	var wg sync.WaitGroup
	wg.Go(func() { defer cancel(); a.outgoing(ctx) })
	wg.Go(func() { defer cancel(); a.incoming() })
	wg.Go(func() { defer cancel(); a.untilIdle(ctx, a.c.sv.cfg.AssociationIdle) })
	io.Copy(io.Discard, a.c) // nothing is expected on it but its end
	cancel()
	wg.Wait()
	a.names.wait()
}

// outgoing carries the application's datagrams until local is closed.
func (a *association) outgoing(ctx context.Context) {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := a.local.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		from = plain(from)
		client := a.client.Load()
		if from.Addr() != a.host || client != nil && from != *client {
			a.drop()
			continue
		}
		to, payload, err := parseDatagram(buf[:n])
		if err != nil {
			a.drop()
			continue
		}
		if client == nil {
			first := from // or every datagram's from would be allocated
			a.client.Store(&first)
		}
		a.touch()
		if to.name != "" {
			target, err := to.target()
			if err != nil {
				a.drop()
				continue
			}
			ip, ok := target.Addr()
			if !ok {
				a.names.send(ctx, target.Host, to.port, payload)
				continue
			}
			to.ip = ip // an address written as a name is an address
		}
		if _, err := a.outside.WriteToUDPAddrPort(payload, netip.AddrPortFrom(to.ip, to.port)); err != nil {
			a.drop()
		}
	}
}

// incoming carries what arrives at the outside port until that is closed.
func (a *association) incoming() {
	buf := make([]byte, maxDatagramHeader+maxDatagram)
	var header [maxDatagramHeader]byte
	for {
		n, from, err := a.outside.ReadFromUDPAddrPort(buf[maxDatagramHeader:])
		if err != nil {
			return
		}
		client := a.client.Load()
		if client == nil {
			a.drop()
			continue
		}
		// The header is put right before the payload, where there is room for the longest.
		h := appendDatagramHeader(header[:0], from)
		begin := maxDatagramHeader - len(h)
		copy(buf[begin:], h)
		if _, err := a.local.WriteToUDPAddrPort(buf[begin:maxDatagramHeader+n], *client); err != nil {
			a.drop()
			continue
		}
		a.touch()
	}
}

// sendNamed is for names.
func (a *association) sendNamed(payload []byte, to netip.AddrPort) error {
	_, err := a.outside.WriteToUDPAddrPort(payload, to)
	return err
}

func (a *association) drop()  { a.c.sv.droppedPackets.Add(1) }
func (a *association) touch() { a.moved.Store(int64(time.Since(a.start))) }

// untilIdle returns when nothing has moved for as long as idle, or ctx is done.
func (a *association) untilIdle(ctx context.Context, idle time.Duration) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		left := idle - (time.Since(a.start) - time.Duration(a.moved.Load()))
		if left <= 0 {
			return
		}
		timer.Reset(left)
	}
}

// plain is ap without zone, and as IPv4 if it can be.
func plain(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
