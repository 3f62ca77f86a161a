package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	quicgo "github.com/sagernet/quic-go"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/knock"
)

// Dialer dials gateways. It implements transport.Dialer.
type Dialer struct {
	// Control, if not nil, is called for every socket before it is used (net.ListenConfig.Control): with "udp4" or "udp6"
	// and the unspecified address, since the socket is not bound to where it sends.
	Control func(network, address string, c syscall.RawConn) error
	// Version2 speaks QUIC's version 2 (RFC 9369), which some firewalls do not read; no browser does.
	Version2 bool

	cookies knock.Cookies

	packets net.PacketConn // instead of a socket, if not nil: a test's
}

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// answerTimeout is how long the gateway may be silent in the handshake. The client asks again after 0.3, 0.9 and 2.1
// seconds: where UDP is swallowed, that is enough to know.
const answerTimeout = 4 * time.Second

// Dial implements transport.Dialer.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	addr, err := lookup(ctx, ep.Addr)
	if err != nil {
		return nil, dialError(transport.StageLookup, err)
	}
	udp, err := d.socket(ctx, addr)
	if err != nil {
		return nil, dialError(transport.StageConnect, err)
	}
	h := &hello{name: ep.Name, version: quicgo.Version1, pins: ep.Pins}
	if d.Version2 {
		h.version = quicgo.Version2
	}
	// A connection has a socket to itself: Chrome's connections have no ids of their own to tell them apart.
	tr := &quicgo.Transport{Conn: udp, ConnectionIDGenerator: quicgo.ZeroLengthConnectionIDGenerator{}}
	shut := func() { tr.Close(); udp.Close() }
	listenToRefusals(udp, true)
	qc, err := tr.Dial(h.context(ctx), addr, &tls.Config{ServerName: ep.Name, InsecureSkipVerify: true,
		NextProtos: []string{nextProto}, MinVersion: tls.VersionTLS13}, &quicgo.Config{
		ChromeParrot:               true,
		Versions:                   []quicgo.Version{h.version},
		HandshakeIdleTimeout:       answerTimeout,
		KeepAlivePeriod:            keepAlive,
		MaxStreamReceiveWindow:     streamWindow,
		MaxConnectionReceiveWindow: connectionWindow,
	})
	if err != nil {
		shut()
		return nil, h.failed(err)
	}
	listenToRefusals(udp, false) // from now on they may be anybody's
	fail := func(stage transport.Stage, err error) (transport.Conn, error) {
		qc.CloseWithError(noError, "")
		shut()
		return nil, dialError(stage, err)
	}
	if !h.postQuantum() {
		return fail(transport.StageHandshake, transport.Reason("whoever answered knows no post-quantum key exchange"))
	}
	c, err := d.open(qc, h, ep)
	if err != nil {
		return fail(transport.StageDoor, err)
	}
	c.shut = shut
	return c, nil
}

func dialError(stage transport.Stage, err error) error {
	return &transport.DialError{Transport: Name, Stage: stage, Err: err}
}

// failed says how far a handshake came, and what it failed of, where that can be said without an address.
func (h *hello) failed(err error) error {
	stage := transport.StageConnect
	if h.heard {
		stage = transport.StageHandshake
	}
	var idle *quicgo.IdleTimeoutError
	var late *quicgo.HandshakeTimeoutError
	var versions *quicgo.VersionNegotiationError
	var theirs *quicgo.TransportError
	switch {
	case errors.Is(h.err, transport.ErrPin):
		return dialError(transport.StagePin, transport.ErrPin)
	case errors.As(err, &idle), errors.As(err, &late):
		err = transport.Reason("nobody answered on UDP")
		if h.heard {
			err = transport.Reason("whoever answered fell silent")
		}
	case errors.As(err, &versions):
		stage, err = transport.StageHandshake, transport.Reason("whoever answered does not speak this version of QUIC")
	case errors.As(err, &theirs):
		stage, err = transport.StageHandshake, transport.Reason(theirs.ErrorCode.String())
	}
	return dialError(stage, err)
}

// lookup finds the address.
func lookup(ctx context.Context, hostport string) (*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, host) // sorted by what this machine reaches best
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, transport.Reason("the name has no address")
	}
	return &net.UDPAddr{IP: addrs[0].IP, Zone: addrs[0].Zone, Port: port}, nil
}

// socket opens one. It is not connected: when this machine gets another address, what is sent has that one, and the
// gateway follows.
func (d *Dialer) socket(ctx context.Context, to *net.UDPAddr) (net.PacketConn, error) {
	if d.packets != nil {
		return d.packets, nil
	}
	network, any := "udp4", "0.0.0.0:0"
	if to.IP.To4() == nil {
		network, any = "udp6", "[::]:0"
	}
	lc := net.ListenConfig{Control: d.Control}
	return lc.ListenPacket(ctx, network, any)
}

// open sends the request that knocks.
func (d *Dialer) open(qc *quicgo.Conn, h *hello, ep transport.Endpoint) (*conn, error) {
	c := newConn(qc, h.export, h.serverKey)
	c.open = func() (outgoing, error) { return openRequest(qc) }
	k, err := ep.Opener.Knock(c)
	if err != nil {
		return nil, err
	}
	cookie, sent, err := d.cookies.Hide(h.serverKey, k)
	if err != nil {
		return nil, err
	}
	c.knock = sent
	if c.entry, err = c.marker(); err != nil {
		return nil, err
	}
	c.steer()
	c.control.Hold(true) // Chrome's request leaves in one packet with what is said on the control stream
	toServer, err := qc.OpenUniStream()
	if err != nil {
		return nil, err
	}
	if _, err := toServer.Write(control()); err != nil {
		return nil, err
	}
	stream, err := qc.OpenStream()
	if err != nil {
		return nil, err
	}
	b, err := request(doorstep.Authority(ep, "443"), cookie)
	if err != nil {
		return nil, err
	}
	c.control.Hold(false)
	if _, err := stream.Write(b); err != nil {
		return nil, err
	}
	c.begin(stream)
	go c.takeLanes()
	return c, nil
}
