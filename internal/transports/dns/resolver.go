package dns

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

// String is what ParseResolver reads.
func (r Resolver) String() string {
	switch r.kind {
	case "https":
		return r.url
	case "udp":
		return r.addr
	}
	return r.kind + "://" + r.addr
}

// ParseResolver reads one.
func ParseResolver(s string) (Resolver, error) {
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

// An exchanger asks a resolver. Safe for concurrent use.
type exchanger interface {
	// exchange sends a query and gives what comes back to take, until that is satisfied or ctx is done.
	exchange(ctx context.Context, query []byte, take func(answer []byte) taken) error
	close()
}

// taken is what somebody thinks of an answer.
type taken int

const (
	notOurs   taken = iota // forged, or for another query
	ours                   // the one
	truncated              // ask again by TCP
	failed                 // the resolver says that it has none, or somebody does in its name
)

// graceTime is how long after a failure the true answer is still waited for: who injects answers is quicker.
const graceTime = 400 * time.Millisecond

var (
	errNoAnswer  = transport.Reason("the resolver has no answer")
	errTruncated = transport.Reason("the resolver cuts answers")
)

// How one dials.
type sockets struct {
	control func(network, address string, c syscall.RawConn) error
	roots   *x509.CertPool
}

func (s sockets) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: s.control}
	return d.DialContext(ctx, network, addr)
}

func (r Resolver) exchanger(s sockets) exchanger {
	switch r.kind {
	case "udp":
		return &overUDP{sockets: s, addr: r.addr}
	case "https":
		return overHTTPS(s, r)
	}
	return &overStream{dial: func(ctx context.Context) (net.Conn, error) {
		c, err := s.dial(ctx, "tcp", r.addr)
		if err != nil || r.kind == "tcp" {
			return c, err
		}
		t := tls.Client(c, &tls.Config{ServerName: r.host, RootCAs: s.roots})
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		return t, nil
	}}
}

// overUDP asks as a machine's own resolver does: every query from a port of its own.
type overUDP struct {
	sockets
	addr string
}

func (u *overUDP) close() {}

func (u *overUDP) exchange(ctx context.Context, query []byte, take func([]byte) taken) error {
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
		case ours:
			return nil
		case truncated:
			return u.again(ctx, query, take)
		case failed:
			if failure == nil {
				failure = errNoAnswer
				if by := time.Now().Add(graceTime); by.Before(deadline) {
					c.SetReadDeadline(by)
				}
			}
		}
	}
}

// again asks by TCP, on a connection for this query alone (RFC 7766, section 5).
func (u *overUDP) again(ctx context.Context, query []byte, take func([]byte) taken) error {
	s := &overStream{dial: func(ctx context.Context) (net.Conn, error) { return u.dial(ctx, "tcp", u.addr) }}
	defer s.close()
	return s.exchange(ctx, query, take)
}

// overStream asks on one connection, TCP or TLS, as long as it holds. Answers come in any order.
type overStream struct {
	dial func(ctx context.Context) (net.Conn, error)

	mu     sync.Mutex
	stream *stream
	closed bool
}

// stream is a connection and who waits for what on it.
type stream struct {
	net.Conn
	over chan struct{} // closed when it broke

	mu      sync.Mutex
	next    uint16
	waiting map[uint16]chan []byte
}

func (o *overStream) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.stream != nil {
		o.stream.Close()
		<-o.stream.over
	}
}

// connected returns the connection there is, or a new one.
func (o *overStream) connected(ctx context.Context) (*stream, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, net.ErrClosed
	}
	if o.stream != nil {
		select {
		case <-o.stream.over:
			o.stream = nil
		default:
			return o.stream, nil
		}
	}
	c, err := o.dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: c, over: make(chan struct{}), waiting: make(map[uint16]chan []byte)}
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

func (o *overStream) exchange(ctx context.Context, query []byte, take func([]byte) taken) error {
	s, err := o.connected(ctx)
	if err != nil {
		return err
	}
	to := make(chan []byte, 1) // read never waits
	s.mu.Lock()
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
		s.mu.Unlock()
	}()
	if err != nil {
		s.Close() // half a message spoils what comes behind it
		return err
	}
	select {
	case answer := <-to:
		switch take(answer) {
		case ours:
			return nil
		case truncated:
			return errTruncated
		}
		return errNoAnswer
	case <-s.over:
		return io.ErrUnexpectedEOF
	case <-ctx.Done():
		return ctx.Err()
	}
}
