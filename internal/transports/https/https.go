// Package https is the transport that ends in the gateway's own TLS on TCP: TLS 1.3 with X25519MLKEM768, the server's
// key checked against the access key's pin and nothing else. What it looks like from outside, the website it is for
// strangers and the browser it takes after, is not in this version yet: see docs/threat-model.md.
package https

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// Name is the transport's name.
const Name = "https"

// SystemCongestion leaves the congestion control to the system.
const SystemCongestion = "system"

// preferredCongestion holds up under loss (draft-ietf-ccwg-bbr); where the kernel has or allows no BBR, the system's
// own serves, and status says so.
const preferredCongestion = "bbr"

// Dialer dials gateways. It implements transport.Dialer.
type Dialer struct {
	// Congestion names the congestion control to ask for; empty prefers BBR, SystemCongestion asks for none.
	Congestion string
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error
}

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// Dial implements transport.Dialer.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	// The system's keep-alives are off: the session probes its links itself, and not by the clock.
	nd := net.Dialer{KeepAlive: -1, Control: d.Control}
	tcp, err := nd.DialContext(ctx, "tcp", ep.Addr)
	if err != nil {
		stage := transport.StageConnect
		var dns *net.DNSError
		if errors.As(err, &dns) {
			stage = transport.StageLookup
		}
		return nil, &transport.DialError{Transport: Name, Stage: stage, Err: err}
	}
	tune(tcp, d.Congestion)
	c := &conn{pipe: newPipe(tcp)}
	c.Conn = tls.Client(c.pipe, clientConfig(ep, &c.serverKey))
	if err := c.Conn.HandshakeContext(ctx); err != nil {
		tcp.Close()
		stage := transport.StageHandshake
		if errors.Is(err, transport.ErrPin) {
			stage = transport.StagePin
		}
		return nil, &transport.DialError{Transport: Name, Stage: stage, Err: err}
	}
	return c, nil
}

func tune(c net.Conn, congestion string) {
	switch congestion {
	case "":
		setCongestion(c, preferredCongestion)
	case SystemCongestion:
	default:
		setCongestion(c, congestion)
	}
}

func clientConfig(ep transport.Endpoint, serverKey *[sha256.Size]byte) *tls.Config {
	return &tls.Config{
		ServerName:                  ep.Name,
		MinVersion:                  tls.VersionTLS13,
		CurvePreferences:            []tls.CurveID{tls.X25519MLKEM768},
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      true,
		// The pin takes the place of the CAs: whatever they say, only the gateway's own key will do.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return transport.ErrPin
			}
			*serverKey = KeyHash(s.PeerCertificates[0])
			if !slices.Contains(ep.Pins, *serverKey) {
				return transport.ErrPin
			}
			return nil
		},
	}
}

// KeyHash is what pins compare: the SHA-256 of a certificate's SubjectPublicKeyInfo.
func KeyHash(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// Listener accepts links. It implements transport.Listener.
type Listener struct {
	tcp        net.Listener
	config     *tls.Config
	key        [sha256.Size]byte
	congestion string
	log        *slog.Logger

	conns  chan transport.Conn
	closed chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
	slots  chan struct{} // as many as handshakes may be under way
}

// maxHandshakes bounds the handshakes under way: each costs a stranger a packet and the gateway some 10 KiB and a
// millisecond.
const maxHandshakes = 512

// ListenConfig is what Listen needs.
type ListenConfig struct {
	// Certificate is the gateway's; its leaf's key is what access keys pin.
	Certificate tls.Certificate
	Congestion  string // as in Dialer
	Logger      *slog.Logger
}

// Listen makes a Listener of tcp, which it owns from then on.
func Listen(tcp net.Listener, cfg ListenConfig) (*Listener, error) {
	leaf, err := x509.ParseCertificate(cfg.Certificate.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's certificate: %w", err)
	}
	l := &Listener{
		tcp: tcp, key: KeyHash(leaf), congestion: cfg.Congestion, log: cfg.Logger,
		config: &tls.Config{
			Certificates:                []tls.Certificate{cfg.Certificate},
			MinVersion:                  tls.VersionTLS13,
			CurvePreferences:            []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
			DynamicRecordSizingDisabled: true,
			SessionTicketsDisabled:      true,
		},
		conns:  make(chan transport.Conn),
		closed: make(chan struct{}),
		slots:  make(chan struct{}, maxHandshakes),
	}
	l.wg.Go(l.accept)
	return l, nil
}

// Accept implements transport.Listener.
func (l *Listener) Accept() (transport.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements transport.Listener.
func (l *Listener) Addr() net.Addr { return l.tcp.Addr() }

// Close implements transport.Listener. It returns when no handshake is under way any more.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.tcp.Close()
	})
	l.wg.Wait()
	return err
}

func (l *Listener) accept() {
	for {
		c, err := l.tcp.Accept()
		if err != nil {
			select {
			case <-l.closed:
				return
			case <-time.After(50 * time.Millisecond): // out of descriptors, most likely: they come back
				l.log.Warn("accepting a connection failed", "err", err)
				continue
			}
		}
		select {
		case l.slots <- struct{}{}:
			l.wg.Go(func() { l.handshake(c) })
		default:
			c.Close()
		}
	}
}

// handshake brings one connection to where its door can be tried.
func (l *Listener) handshake(tcp net.Conn) {
	defer func() { <-l.slots }()
	if t, ok := tcp.(*net.TCPConn); ok {
		t.SetKeepAlive(false) // the session probes its links
	}
	tune(tcp, l.congestion)
	c := &conn{pipe: newPipe(tcp), serverKey: l.key}
	c.Conn = tls.Server(c.pipe, l.config)
	ctx, cancel := context.WithTimeout(context.Background(), transport.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer stop()
	go func() { // Close does not wait for strangers
		select {
		case <-l.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := c.Conn.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return
	}
	if c.ConnectionState().CurveID != tls.X25519MLKEM768 {
		c.Close()
		return
	}
	select {
	case l.conns <- c:
	case <-l.closed:
		c.Close()
	}
}
