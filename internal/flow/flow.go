// Package flow is the tiny contract between what captures applications' traffic and the session that carries it, and
// between the session and what dials the world on the other side.
//
//	application ─ capture ─ Opener/Resolver/PacketOpener ─ session ═ link ═ session ─ Egress ─ the world
//
// Nothing here knows how bytes cross; nothing that implements it needs to know who captured them.
package flow

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Target is where a stream goes: a name or an address, and a TCP port.
type Target struct {
	// Host is a DNS name without its trailing dot, in lower case, or an IP address without brackets or zone.
	Host string
	Port uint16
}

// ResolverTarget is where a gateway answers DNS messages itself, over TCP's framing (RFC 7766). The name is one that nobody
// else can have: "internal" is for private use.
var ResolverTarget = Target{Host: "resolver.godwit.internal", Port: 53}

// MaxHost is the longest Host, in bytes: a DNS name in presentation form (RFC 1035 §2.3.4).
const MaxHost = 253

// NewTarget normalises host (brackets, case, one trailing dot, IPv4-mapped IPv6) and refuses what no stream can be
// opened to.
func NewTarget(host string, port uint16) (Target, error) {
	h := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
	if a, err := netip.ParseAddr(h); err == nil {
		if a.Zone() != "" {
			return Target{}, Errorf(CodeBadTarget, "address %q has a zone: a stream cannot leave this machine's link", host)
		}
		return Target{Host: a.Unmap().String(), Port: port}, checkPort(port)
	}
	h = strings.ToLower(h)
	if len(h) > MaxHost || slices.Contains(strings.Split(h, "."), "") || strings.ContainsAny(h, " \t\r\n\x00/@:[]") {
		return Target{}, Errorf(CodeBadTarget, "host %q is neither a name nor an address", host)
	}
	return Target{Host: h, Port: port}, checkPort(port)
}

func checkPort(port uint16) error {
	if port == 0 {
		return Errorf(CodeBadTarget, "port 0 cannot be connected to")
	}
	return nil
}

// ParseTarget is NewTarget for "host:port" text.
func ParseTarget(hostport string) (Target, error) {
	host, p, err := net.SplitHostPort(hostport)
	if err != nil {
		return Target{}, Errorf(CodeBadTarget, "target %q is not host:port", hostport)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return Target{}, Errorf(CodeBadTarget, "port %q is not a number from 1 to 65535", p)
	}
	return NewTarget(host, uint16(port))
}

// Addr is the target's address, if it is one rather than a name.
func (t Target) Addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(t.Host)
	return a, err == nil
}

// String is "host:port", with brackets around IPv6. It is a destination a user visited: never log it unasked.
func (t Target) String() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// Early reports whether a capture may tell the application "connected" before the gateway has dialled: only for a name
// (an address is what Happy Eyeballs and port scans try, and they must hear the truth) and only on ports where the
// client speaks first, so that nobody waits for a greeting from a host that refused.
func (t Target) Early() bool {
	if _, isAddr := t.Addr(); isAddr {
		return false
	}
	return t.Port == 80 || t.Port == 443 || t.Port == 853
}

// Stream is one TCP conversation whose far end is elsewhere. It is a net.Conn with TCP's extra manners; errors after a
// reset by the far side satisfy errors.Is(err, ErrReset) or carry an *Error.
type Stream interface {
	net.Conn
	// CloseWrite ends our direction; the other one goes on (TCP half-close).
	CloseWrite() error
	// Reset aborts both directions at once and tells the far side why. Safe to call at any time and more than once.
	Reset(code Code)
	// Join carries conn's bytes over the stream, and the stream's to conn, until both directions have ended or either
	// side was reset; a reset travels on as a reset. Join owns conn and closes it before it returns. It replaces Read
	// and Write, which must not be called once Join has been.
	Join(conn net.Conn) error
}

// Opener opens streams to the world. Safe for concurrent use.
type Opener interface {
	// Open asks for a stream to t. With early set it returns once the request is on its way and a failed dial resets the
	// stream; otherwise it waits for the gateway's answer and returns its error as an *Error.
	Open(ctx context.Context, t Target, early bool) (Stream, error)
}

// Resolver looks names up where the traffic leaves, never here. Safe for concurrent use.
type Resolver interface {
	// Resolve returns at least one address or an *Error. The order is the resolver's preference.
	Resolve(ctx context.Context, name string) ([]netip.Addr, error)
}

// PacketOpener opens UDP ports at the tunnel's address. Safe for concurrent use.
type PacketOpener interface {
	// ListenPacket returns a UDP port of the tunnel's address. Its addresses are *net.UDPAddr. Packets may be lost.
	ListenPacket(ctx context.Context) (net.PacketConn, error)
}

// Outside is everything a capture needs.
type Outside interface {
	Opener
	Resolver
	PacketOpener
}

// Egress is how a gateway reaches the world on behalf of its sessions. Safe for concurrent use.
type Egress interface {
	Resolver
	// Dial connects to t or fails with an *Error.
	Dial(ctx context.Context, t Target) (net.Conn, error)
	// Packets gives one session's packets a way out. send is called, from any goroutine, with each packet coming back;
	// it must not block and does not keep the slice. Close of the result drops all of the session's mappings.
	Packets(send func(packet []byte)) PacketSink
	// Families says which address families Dial can reach.
	Families() Families
}

// A Forwarder is an Egress that carries packets of every protocol, each as it is.
type Forwarder interface {
	// Forward is Packets for a session that has these addresses: what is sent has one of them as its source, and so has what
	// comes back as its destination. It matches fs.ErrExist where another session of this machine has one of them already, and
	// Close of the result gives them back.
	Forward(v4, v6 netip.Addr, send func(packet []byte)) (PacketSink, error)
}

// PacketSink takes one session's outgoing IP packets. WritePacket never blocks and does not keep the slice; what it
// cannot carry it drops.
type PacketSink interface {
	WritePacket(packet []byte)
	Close() error
}

// Families is a set of address families.
type Families uint8

// The families.
const (
	IPv4 Families = 1 << iota
	IPv6
)

// Has reports whether f contains all of g.
func (f Families) Has(g Families) bool { return f&g == g }
