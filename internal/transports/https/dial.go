package https

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"

	tls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/knock"
)

// Dialer dials gateways. It implements transport.Dialer.
type Dialer struct {
	// Congestion names the congestion control to ask for; empty prefers BBR, SystemCongestion asks for none.
	Congestion string
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error

	cookies knock.Cookies
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
	c := &conn{pipe: &pipe{Conn: tcp}, closed: make(chan struct{})}
	c.pipe.link()
	if err := c.handshake(ctx, ep); err != nil {
		tcp.Close()
		stage := transport.StageHandshake
		if errors.Is(err, transport.ErrPin) {
			stage = transport.StagePin
		}
		return nil, &transport.DialError{Transport: Name, Stage: stage, Err: err}
	}
	if err := d.open(c, ep); err != nil {
		tcp.Close()
		return nil, &transport.DialError{Transport: Name, Stage: transport.StageDoor, Err: err}
	}
	return c, nil
}

// handshake does TLS's, as the client.
func (c *conn) handshake(ctx context.Context, ep transport.Endpoint) error {
	t, err := chrome.Client(c.pipe, &tls.Config{
		ServerName: ep.Name,
		// The pin takes the place of the CAs: whatever they say, only the gateway's own key will do.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return transport.ErrPin
			}
			c.serverKey = KeyHash(s.PeerCertificates[0])
			if !slices.Contains(ep.Pins, c.serverKey) {
				return transport.ErrPin
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	switch err := t.HandshakeContext(ctx); {
	case err != nil:
		return reason(err)
	case chrome.Group(t) != tls.X25519MLKEM768:
		return transport.Reason("whoever answered knows no post-quantum key exchange")
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol != http2.NextProtoTLS {
		return transport.Reason("whoever answered does not speak HTTP/2")
	}
	c.Conn, c.export = t, state.ExportKeyingMaterial
	return nil
}

// reason says what a handshake failed of, where that can be said without an address.
func reason(err error) error {
	var notTLS tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &notTLS):
		return transport.Reason("whoever answered does not speak TLS")
	case errors.As(err, &alert):
		return transport.Reason(alert.Error())
	}
	return err
}

// open sends the request that knocks.
func (d *Dialer) open(c *conn, ep transport.Endpoint) error {
	b, err := ep.Opener.Knock(c)
	if err != nil {
		return err
	}
	cookie, sent, err := d.cookies.Hide(c.serverKey, b)
	if err != nil {
		return err
	}
	c.knock = sent
	marker, err := c.marker()
	if err != nil {
		return err
	}
	c.entry = &entry{marker: marker, filler: ep.Opener}
	for _, record := range chrome.Opening(knock.Authority(ep.Addr, ep.Name), cookie) {
		if _, err := c.Write(record); err != nil { // each in a segment of its own, as a browser's are
			return err
		}
	}
	return nil
}

// entry is a client on its way through the door: what the website's server says comes first, then the marker.
type entry struct {
	marker []byte
	filler transport.Filler
	acked  bool
}

// maxSkipped is how much may come ahead of the marker: the server's SETTINGS, its WINDOW_UPDATE, its SETTINGS ACK.
const maxSkipped = 4 << 10

// pass reads up to the marker and the rest of its frame.
func (c *conn) pass() error {
	for skipped := 0; skipped < maxSkipped; {
		head, err := http2.ReadFrameHeader(c.Conn)
		if err != nil {
			return err
		}
		if head.Length > 16<<10 {
			return errDoor
		}
		body := make([]byte, head.Length)
		if _, err := io.ReadFull(c.Conn, body); err != nil {
			return err
		}
		skipped += headLen + len(body)
		switch {
		case head.Type == http2.FrameHeaders && head.StreamID == 1:
			if len(body) < markerLen || subtle.ConstantTimeCompare(body[:markerLen], c.entry.marker) == 0 {
				return errDoor
			}
			return nil
		case head.Type == http2.FrameSettings && !head.Flags.Has(http2.FlagSettingsAck) && !c.entry.acked:
			// A browser acknowledges now, in a record of its own. Behind the door that would mean nothing.
			c.entry.acked = true
			c.WriteBatch([][]byte{c.entry.filler.AppendFiller(nil, chrome.SettingsAckLen)})
		case head.Type == http2.FrameSettings, head.Type == http2.FrameWindowUpdate:
		default:
			return errDoor
		}
	}
	return errDoor
}

var errDoor = &transport.DialError{Transport: Name, Stage: transport.StageDoor, Err: transport.ErrDoor}
