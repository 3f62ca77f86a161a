package websocket

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Dialer dials gateways through fronts. It implements transport.Dialer.
type Dialer struct {
	// Roots verify the front's certificate, unless its key is one of the endpoint's pins; nil are the system's.
	Roots *x509.CertPool
	// Congestion names the congestion control to ask for; empty prefers BBR, "system" asks for none.
	Congestion string
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error

	idle time.Duration // for tests; leastIdle if it is zero

	mu    sync.Mutex
	plain map[string]bool // fronts whose HTTP/2 takes no WebSocket, by address
}

// mostPlain bounds what is remembered of fronts.
const mostPlain = 64

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// Dial implements transport.Dialer. Where the front has no WebSocket on HTTP/2 the first dial makes a second connection,
// after transport.DialSpacing; the next one knows.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	began := time.Now()
	v, err := d.visit(ctx, ep, d.isPlain(ep.Addr))
	if err != nil {
		return nil, err
	}
	below, err := v.open(ctx)
	if errors.Is(err, errAgain) {
		if v.h2 != nil {
			d.remember(ep.Addr)
		}
		v.Close()
		if err := ep.Another(ctx, began); err != nil {
			return nil, dialError(transport.StageDoor, err)
		}
		greeting := v.greeting
		if v, err = d.visit(ctx, ep, true); err != nil {
			return nil, err
		}
		v.greeting = greeting
		below, err = v.open(ctx)
	}
	if err != nil {
		v.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, dialError(transport.StageDoor, err)
	}
	if !v.stop() {
		below.Close()
		return nil, dialError(transport.StageDoor, ctx.Err())
	}
	return pipe.Client(ctx, below, Name, ep)
}

func dialError(stage transport.Stage, err error) error {
	return &transport.DialError{Transport: Name, Stage: stage, Err: err}
}

func (d *Dialer) isPlain(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plain[addr]
}

func (d *Dialer) remember(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.plain) >= mostPlain || d.plain == nil {
		d.plain = make(map[string]bool)
	}
	d.plain[addr] = true
}

// visit is one connection to a front.
type visit struct {
	net.Conn  // TLS
	ep        transport.Endpoint
	authority string
	stop      func() bool       // ends that the context closes it
	h2        *h2               // nil if it is HTTP/1.1
	limit     *io.LimitedReader // bounds what is read before the WebSocket is open
	r         *bufio.Reader
	greeting  greeting
	idle      time.Duration
}

// greeting is what the front's page brought.
type greeting struct {
	cookie string
	nonce  []byte
}

// errAgain says that another connection is needed, with HTTP/1.1.
var errAgain = transport.Reason("the front takes no WebSocket on this connection")

// visit connects; http1 offers nothing else.
func (d *Dialer) visit(ctx context.Context, ep transport.Endpoint, http1 bool) (*visit, error) {
	sock, err := tcp.Dial(ctx, Name, ep.Addr, d.Congestion, d.Control)
	if err != nil {
		return nil, err
	}
	secure, err := d.handshake(ctx, sock, ep, http1)
	if err != nil {
		sock.Close()
		return nil, dialError(transport.StageHandshake, err)
	}
	v := &visit{Conn: &tcp.Sealed{Below: tcp.Below{Conn: sock}, TLS: secure}, ep: ep, authority: doorstep.Authority(ep, "443"), idle: leastIdle}
	v.stop = context.AfterFunc(ctx, func() { sock.Close() })
	if d.idle > 0 {
		v.idle = d.idle
	}
	if secure.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS {
		v.h2 = newH2(v.Conn)
	} else {
		v.limit = &io.LimitedReader{R: v.Conn, N: maxPageHeader + maxPage}
		v.r = bufio.NewReader(v.limit)
	}
	return v, nil
}

func (d *Dialer) handshake(ctx context.Context, sock net.Conn, ep transport.Endpoint, http1 bool) (*utls.UConn, error) {
	client := chrome.Client
	if http1 {
		client = chrome.ClientHTTP1
	}
	name := ep.Name
	if name == "" {
		name, _, _ = net.SplitHostPort(ep.Addr)
	}
	secure, err := client(sock, &utls.Config{
		ServerName:         ep.Name,
		InsecureSkipVerify: true, // it is verified here, since the gateway's own key will do, too
		VerifyConnection: func(s utls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errFront
			}
			if _, err := transport.CheckPin(ep.Pins, s.PeerCertificates); err == nil {
				return nil
			}
			leaf := s.PeerCertificates[0]
			rest := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				rest.AddCert(c)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: d.Roots, Intermediates: rest}); err != nil {
				return errFront
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return secure, chrome.Reason(secure.HandshakeContext(ctx))
}

const errFront = transport.Reason("the front's certificate is not one that CAs vouch for, nor the gateway's")

const (
	maxPage       = doorstep.MaxPage
	maxPageHeader = doorstep.MaxPageHeader
)

// open asks for the page, unless that is known, and opens the WebSocket.
func (v *visit) open(ctx context.Context) (net.Conn, error) {
	again := false
	if v.greeting.nonce == nil {
		var err error
		if again, err = v.page(); err != nil {
			return nil, err
		}
	}
	switch {
	case v.greeting.nonce == nil:
		return nil, errNoGateway
	case again, v.h2 != nil && !v.h2.connects:
		return nil, errAgain
	}
	cookie, _ := doorstep.Answer(v.greeting.cookie, v.greeting.nonce, v.ep)
	if cookie == "" {
		return nil, errNoProof
	}
	if v.h2 != nil {
		stream, err := v.h2.open(ctx, v.authority, cookie)
		if err != nil {
			return nil, err
		}
		return newConn(stream, bufio.NewReader(stream), true, v.idle), nil
	}
	return v.upgrade(cookie)
}

const (
	errNoGateway = transport.Reason("no gateway is behind the page: it came without a nonce")
	errNoProof   = transport.Reason("the access key cannot prove itself ahead of TLS")
)

// page asks for the page. again says that the connection is over with it.
func (v *visit) page() (again bool, err error) {
	var header http.Header
	if v.h2 != nil {
		header, err = v.h2.page(v.authority)
	} else {
		header, again, err = v.page1()
	}
	if err != nil {
		return false, err
	}
	v.greeting.cookie, v.greeting.nonce = doorstep.Nonce(header)
	return again, nil
}

func (v *visit) page1() (header http.Header, again bool, err error) {
	if _, err := v.Write(chrome.Request(v.authority)); err != nil {
		return nil, false, err
	}
	return doorstep.ReadPage(v.r)
}

// upgrade is RFC 6455, section 4.1.
func (v *visit) upgrade(cookie string) (net.Conn, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	if _, err := v.Write(chrome.Upgrade(v.authority, cookie, key)); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != accepted(key) {
		return nil, transport.ErrDoor
	}
	v.limit.N = math.MaxInt64
	return newConn(v.Conn, v.r, true, v.idle), nil
}
