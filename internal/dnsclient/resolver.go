// Package dnsclient asks resolvers: over UDP, TCP, TLS and HTTPS. An Exchanger carries one message to one of them; a
// Client asks several until one has an answer.
package dnsclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// A Resolver says where queries go.
//
//	192.0.2.53, 192.0.2.53:53     UDP, and TCP for what is too long
//	tcp://192.0.2.53              TCP
//	tls://dns.example             DNS over TLS (RFC 7858), port 853
//	https://dns.example/dns-query DNS over HTTPS (RFC 8484), in a browser's TLS
//
// Names are looked up by the system, and certificates are the world's: whoever the resolver is, it reads nothing.
type Resolver struct {
	kind string
	addr string // host:port
	host string // in certificates
	url  string
}

// String is what Parse reads.
func (r Resolver) String() string {
	switch r.kind {
	case "https":
		return r.url
	case "udp":
		return r.addr
	}
	return r.kind + "://" + r.addr
}

// Parse reads a Resolver.
func Parse(s string) (Resolver, error) {
	bad := func(why string) (Resolver, error) {
		return Resolver{}, fmt.Errorf("resolver %q: %s: give an address, or tcp://, tls:// or https:// and where it is", s, why)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return Resolver{kind: "udp", addr: net.JoinHostPort(a.String(), "53")}, nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return Resolver{kind: "udp", addr: a.String()}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return bad("it is none")
	}
	port := map[string]string{"tcp": "53", "tls": "853", "https": "443"}[u.Scheme]
	if port == "" {
		return bad("there is no such kind")
	}
	r := Resolver{kind: u.Scheme, host: u.Hostname()}
	if u.Port() != "" {
		port = u.Port()
	}
	r.addr = net.JoinHostPort(r.host, port)
	switch {
	case u.Scheme == "https":
		if u.Path == "" {
			u.Path = "/dns-query"
		}
		r.url = u.String()
	case u.Path != "" && u.Path != "/" || u.RawQuery != "":
		return bad("it has a path")
	}
	return r, nil
}

// An Exchanger asks a resolver. Safe for concurrent use.
type Exchanger interface {
	// Exchange sends a query and gives what comes back to take, until that is satisfied or ctx is done. The answer's id is
	// the query's over UDP alone.
	Exchange(ctx context.Context, query []byte, take func(answer []byte) Taken) error
	// Close ends what is under way, and the connection if there is one.
	Close()
}

// Taken is what somebody thinks of an answer.
type Taken int

// What an answer can be.
const (
	NotOurs   Taken = iota // forged, or for another query
	Ours                   // the one
	Truncated              // ask again by TCP
	Failed                 // the resolver says that it has none, or somebody does in its name
)

// graceTime is how long after a failure the true answer is still waited for: who injects answers is quicker.
const graceTime = 400 * time.Millisecond

// How an exchange fails although something came.
var (
	ErrNoAnswer  = transport.Reason("the resolver has no answer")
	ErrTruncated = transport.Reason("the resolver cuts answers")
)

// Sockets are how resolvers are reached. The zero value is the system's way.
type Sockets struct {
	// Dial makes connections, as a net.Dialer's DialContext; nil is one of the system's with Control.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error
	// Roots are whom resolvers' certificates are to be signed by; nil is the system's.
	Roots *x509.CertPool
}

func (s Sockets) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(ctx, network, addr)
	}
	d := net.Dialer{KeepAlive: -1, Control: s.Control}
	return d.DialContext(ctx, network, addr)
}

// ByStream is the same resolver, asked by TCP if it would be asked by UDP.
func (r Resolver) ByStream() Resolver {
	if r.kind == "udp" {
		r.kind = "tcp"
	}
	return r
}

// IsZero reports whether r is no resolver.
func (r Resolver) IsZero() bool { return r.kind == "" }

// Exchanger returns one that asks r. Close it.
func (r Resolver) Exchanger(s Sockets) Exchanger {
	switch r.kind {
	case "udp":
		return &overUDP{Sockets: s, addr: r.addr}
	case "https":
		return overHTTPS(s, r)
	}
	return OverStream(func(ctx context.Context) (net.Conn, error) {
		c, err := s.dial(ctx, "tcp", r.addr)
		if err != nil || r.kind == "tcp" {
			return c, err
		}
		t := tls.Client(c, &tls.Config{ServerName: r.host, RootCAs: s.Roots})
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		return t, nil
	}, 0)
}

// overUDP asks as a machine's own resolver does: every query from a port of its own.
type overUDP struct {
	Sockets
	addr string
}

// Close implements Exchanger: there is nothing to close.
func (u *overUDP) Close() {}

// Exchange implements Exchanger.
func (u *overUDP) Exchange(ctx context.Context, query []byte, take func([]byte) Taken) error {
	c, err := u.dial(ctx, "udp", u.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(query); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for failure := error(nil); ; {
		n, err := c.Read(buf)
		if err != nil {
			if failure != nil {
				return failure
			}
			return err
		}
		if n < 2 || !bytes.Equal(buf[:2], query[:2]) {
			continue
		}
		switch take(buf[:n]) {
		case Ours:
			return nil
		case Truncated:
			return u.again(ctx, query, take)
		case Failed:
			if failure == nil {
				failure = ErrNoAnswer
				if by := time.Now().Add(graceTime); by.Before(deadline) {
					c.SetReadDeadline(by)
				}
			}
		}
	}
}

// again asks by TCP, on a connection for this query alone (RFC 7766, section 5).
func (u *overUDP) again(ctx context.Context, query []byte, take func([]byte) Taken) error {
	s := OverStream(func(ctx context.Context) (net.Conn, error) { return u.dial(ctx, "tcp", u.addr) }, 0)
	defer s.Close()
	return s.Exchange(ctx, query, take)
}

// overStream asks on one connection, TCP or TLS, as long as it holds. Answers come in any order.
type overStream struct {
	dial func(ctx context.Context) (net.Conn, error)
	age  time.Duration // after which a connection gets no more questions; 0: none

	turn   chan struct{} // holds one token while somebody looks at what is below, or dials
	stream *stream
	closed bool
}

// OverStream returns an Exchanger that asks on one connection made by dial, many questions at once (RFC 7766), and makes
// another when it has broken. Questions under way then fail with io.ErrUnexpectedEOF. A connection that is older than age,
// unless that is 0, gets no more questions and is closed with its last answer.
func OverStream(dial func(ctx context.Context) (net.Conn, error), age time.Duration) Exchanger {
	return &overStream{dial: dial, age: age, turn: make(chan struct{}, 1)}
}

// stream is a connection and who waits for what on it.
type stream struct {
	net.Conn
	over chan struct{} // closed when it broke

	mu      sync.Mutex
	next    uint16
	waiting map[uint16]chan []byte
	begun   time.Time
	retired bool // closed with its last answer
}

// retire has the connection closed as soon as nobody waits for anything on it.
func (s *stream) retire() {
	s.mu.Lock()
	s.retired = true
	done := len(s.waiting) == 0
	s.mu.Unlock()
	if done {
		s.Close()
	}
}

// mostWaiting bounds the questions on one connection.
const mostWaiting = 1 << 14

var errTooMany = transport.Reason("too many questions wait for the resolver")

// Close implements Exchanger.
func (o *overStream) Close() {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	o.closed = true
	if o.stream != nil {
		o.stream.Close()
		<-o.stream.over
	}
}

// connected returns the connection there is, or a new one.
func (o *overStream) connected(ctx context.Context) (*stream, error) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if o.closed {
		return nil, net.ErrClosed
	}
	if o.stream != nil {
		select {
		case <-o.stream.over:
		default:
			if o.age == 0 || time.Since(o.stream.begun) < o.age {
				return o.stream, nil
			}
			o.stream.retire()
		}
		o.stream = nil
	}
	c, err := o.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: c, over: make(chan struct{}), waiting: make(map[uint16]chan []byte), begun: time.Now()}
	o.stream = s
	go s.read()
	return s, nil
}

// read hands answers out until the connection breaks.
func (s *stream) read() {
	defer close(s.over)
	defer s.Close()
	for {
		var head [2]byte
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return
		}
		answer := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(s, answer); err != nil || len(answer) < 2 {
			return
		}
		s.mu.Lock()
		to := s.waiting[binary.BigEndian.Uint16(answer)]
		delete(s.waiting, binary.BigEndian.Uint16(answer))
		s.mu.Unlock()
		if to != nil {
			to <- answer // has room for the one
		}
	}
}

// Exchange implements Exchanger.
func (o *overStream) Exchange(ctx context.Context, query []byte, take func([]byte) Taken) error {
	s, err := o.connected(ctx)
	if err != nil {
		return err
	}
	to := make(chan []byte, 1) // read never waits
	s.mu.Lock()
	if len(s.waiting) >= mostWaiting {
		s.mu.Unlock()
		return errTooMany
	}
	for s.next++; s.waiting[s.next] != nil; s.next++ {
	}
	id := s.next
	s.waiting[id] = to
	message := binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	message = binary.BigEndian.AppendUint16(message, id)
	message = append(message, query[2:]...)
	deadline, _ := ctx.Deadline()
	s.SetWriteDeadline(deadline)
	_, err = s.Write(message)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, id)
		done := s.retired && len(s.waiting) == 0
		s.mu.Unlock()
		if done {
			s.Close()
		}
	}()
	if err != nil {
		s.Close() // half a message spoils what comes behind it
		select {
		case <-s.over: // whoever asks again finds it gone
		case <-ctx.Done():
		}
		return err
	}
	select {
	case answer := <-to:
		switch take(answer) {
		case Ours:
			return nil
		case Truncated:
			return ErrTruncated
		}
		return ErrNoAnswer
	case <-s.over:
		return io.ErrUnexpectedEOF
	case <-ctx.Done():
		return ctx.Err()
	}
}
