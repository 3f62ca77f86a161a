package doctor

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// A Dial connects from this machine: as net.Dialer's DialContext, from a local port unless that is zero. Addresses are
// numbers.
type Dial func(ctx context.Context, network string, local uint16, address string) (net.Conn, error)

// systemDial is this machine's own network.
func systemDial(ctx context.Context, network string, local uint16, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if local != 0 {
		d.LocalAddr = &net.TCPAddr{Port: int(local)}
	}
	return d.DialContext(ctx, network, address)
}

// How long is waited. A connection is given two more SYNs, an answer in TLS a lost packet or two.
const (
	connectTime = 4 * time.Second
	answerTime  = 5 * time.Second
)

// outcome says what an error means. None is OK.
func outcome(err error) Outcome {
	var ne net.Error
	var errno syscall.Errno
	switch {
	case err == nil:
		return OK
	case errors.As(err, &errno) && systemOutcome(errno) != "":
		return systemOutcome(errno)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETDOWN),
		errors.Is(err, syscall.EAFNOSUPPORT):
		return NoRoute
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EPERM),
		errors.Is(err, syscall.EACCES):
		return Untested
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return Silent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Closed
	}
	return Other
}

// refused reports whether the far end of a UDP socket said that nobody listens there: some systems call that a reset.
func refused(err error) bool { return outcome(err) == Refused || outcome(err) == Reset }

// counted is a connection that knows how much came, and when the last of it did.
type counted struct {
	net.Conn
	in   atomic.Int64
	last atomic.Int64 // nanoseconds since began
	from time.Time
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.in.Add(int64(n))
		c.last.Store(int64(time.Since(c.from)))
	}
	return n, err
}

// linger says how the connection ends, whoever closes it: with nothing left behind, so that its port can be used again at
// once, as after one that was cut; or as a browser's does.
func (c *counted) linger(ordinary bool) {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		seconds := 0
		if ordinary {
			seconds = -1
		}
		t.SetLinger(seconds)
	}
}

func (c *counted) port() uint16 {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return uint16(a.Port)
	}
	return 0
}

// spacer keeps dials apart.
type spacer struct {
	mu   sync.Mutex
	last time.Time
}

// betweenTLS is how far apart TLS handshakes are, more than any other dials: they are what some firewalls count.
const betweenTLS = 700 * time.Millisecond

func (s *spacer) wait(ctx context.Context, least time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() {
		sleep(ctx, least-time.Since(s.last))
	}
	s.last = time.Now()
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connect opens a TCP connection to a place, with the distance that is due.
func (p *probes) connect(ctx context.Context, place int, port, local uint16, apart time.Duration) (*counted, Connect) {
	p.space.wait(ctx, max(apart, transport.DialSpacing))
	within, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	began := time.Now()
	c, err := p.cfg.Dial(within, "tcp", local, p.at(place, port))
	seen := Connect{Place: place, Port: port, Outcome: outcome(err), MS: ms(time.Since(began))}
	if err != nil {
		return nil, seen
	}
	open := &counted{Conn: c, from: time.Now()}
	open.linger(false)
	return open, seen
}

func (p *probes) at(place int, port uint16) string {
	return netip.AddrPortFrom(p.addrs[place], port).String()
}

// authority is what a browser calls the server: the name, or the address if there is none.
func (p *probes) authority(place, name int, port, usual uint16) string {
	host := p.says(name)
	if host == "" {
		host = p.addrs[place].String()
		if p.addrs[place].Is6() {
			host = "[" + host + "]"
		}
	}
	if port != usual {
		host += ":" + strconv.Itoa(int(port))
	}
	return host
}
