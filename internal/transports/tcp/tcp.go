// Package tcp is what stands between TLS and TCP in every transport that is on TCP: batches in one write, writes that
// never wait, and what the kernel is asked and told about a connection. It works for other connections, too, with less.
package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// SystemCongestion leaves the congestion control to the system.
const SystemCongestion = "system"

// preferredCongestion holds up under loss (draft-ietf-ccwg-bbr); where the kernel has or allows no BBR, the system's
// own serves, and status says so.
const preferredCongestion = "bbr"

// Tune asks for a congestion control; empty prefers BBR, and SystemCongestion asks for none.
func Tune(c net.Conn, congestion string) {
	switch congestion {
	case "":
		setCongestion(c, preferredCongestion)
	case SystemCongestion:
	default:
		setCongestion(c, congestion)
	}
}

// Dial connects for the named transport, whose errors are *transport.DialError, and returns what works for a link. control
// is as in net.Dialer.
func Dial(ctx context.Context, name, addr, congestion string, control func(string, string, syscall.RawConn) error) (*Conn, error) {
	// The system's keep-alives are off: the session probes its links itself, and not by the clock.
	// Of a name with addresses of both families the second is tried no sooner than any other dial would be.
	d := net.Dialer{KeepAlive: -1, Control: control, FallbackDelay: transport.DialSpacing}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		stage := transport.StageConnect
		var dns *net.DNSError
		if errors.As(err, &dns) {
			stage = transport.StageLookup
		}
		return nil, &transport.DialError{Transport: name, Stage: stage, Err: err}
	}
	Tune(c, congestion)
	conn := &Conn{Conn: c}
	conn.Link()
	return conn, nil
}

// Linked makes of a connection that an HTTP server has given up the layer that works for a link, as far as it can.
func Linked(c net.Conn) net.Conn {
	secure, isTLS := c.(*tls.Conn)
	below := c
	if isTLS {
		below = secure.NetConn()
	}
	if sock, ok := below.(interface {
		Layer
		Link()
	}); ok { // a Conn, or what has one in it
		sock.Link()
	} else if !isTLS {
		sock := &Conn{Conn: c}
		sock.Link()
		below = sock
	}
	if isTLS {
		return &Sealed{Below: Below{below}, TLS: secure}
	}
	return below
}

// Layer is a connection that stands on a Conn, with any number of layers between them, and hands on what that can do.
type Layer interface {
	net.Conn
	transport.Tuned
	transport.NonBlocking
	// NonBlocking reports whether OnDrained works.
	NonBlocking() bool
}

// Below is for a layer to embed: the layer, or the connection, that it stands on.
type Below struct{ net.Conn }

// Measure is transport.Tuned's.
func (b Below) Measure() (p transport.Path) {
	if l, ok := b.Conn.(Layer); ok {
		p = l.Measure()
	}
	return p
}

// SetUnsentLimit is transport.Tuned's.
func (b Below) SetUnsentLimit(bytes int) {
	if l, ok := b.Conn.(Layer); ok {
		l.SetUnsentLimit(bytes)
	}
}

// Congestion is transport.Tuned's.
func (b Below) Congestion() (name string) {
	if l, ok := b.Conn.(Layer); ok {
		name = l.Congestion()
	}
	return name
}

// NonBlocking is Layer's.
func (b Below) NonBlocking() bool {
	l, ok := b.Conn.(Layer)
	return ok && l.NonBlocking()
}

// OnDrained is transport.NonBlocking's.
func (b Below) OnDrained(f func()) {
	if l, ok := b.Conn.(Layer); ok {
		l.OnDrained(f)
	}
}

// Backlog is transport.NonBlocking's.
func (b Below) Backlog() bool {
	l, ok := b.Conn.(Layer)
	return ok && l.Backlog()
}

// Sealed is the layer of TLS on a Conn: the records of one Write leave in one write.
type Sealed struct {
	Below          // the Conn
	TLS   net.Conn // which was made of it
}

// batching is what a Conn does for Sealed.
type batching interface {
	Hold()
	Release() error
}

// Read implements net.Conn.
func (s *Sealed) Read(b []byte) (int, error) { return s.TLS.Read(b) }

// Write implements net.Conn. One Write may run at a time.
func (s *Sealed) Write(b []byte) (int, error) {
	under, ok := s.Conn.(batching)
	if !ok {
		return s.TLS.Write(b)
	}
	under.Hold()
	n, err := s.TLS.Write(b)
	if rerr := under.Release(); err == nil {
		err = rerr
	}
	return n, err
}

// SetDeadline implements net.Conn.
func (s *Sealed) SetDeadline(t time.Time) error { return s.TLS.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *Sealed) SetReadDeadline(t time.Time) error { return s.TLS.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. What TLS has sealed by half is lost with it.
func (s *Sealed) SetWriteDeadline(t time.Time) error { return s.TLS.SetWriteDeadline(t) }

// Measure is transport.Tuned's, of the connection below or, if that is a transport's own, as that says.
func (p *Conn) Measure() transport.Path {
	if t, ok := p.Conn.(transport.Tuned); ok {
		return t.Measure()
	}
	p.startup.look(p.Conn, p.wasFull())
	return path(p.Conn)
}

// SetUnsentLimit is transport.Tuned's.
func (p *Conn) SetUnsentLimit(bytes int) {
	if t, ok := p.Conn.(transport.Tuned); ok {
		t.SetUnsentLimit(bytes)
		return
	}
	setUnsentLimit(p.Conn, bytes)
}

// Congestion is transport.Tuned's.
func (p *Conn) Congestion() string {
	if t, ok := p.Conn.(transport.Tuned); ok {
		return t.Congestion()
	}
	return congestion(p.Conn)
}
