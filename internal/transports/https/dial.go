package https

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	tls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/knock"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Dialer dials gateways. It implements transport.Dialer. The zero value looks like Chrome.
type Dialer struct {
	// Congestion names the congestion control to ask for; empty prefers BBR, "system" asks for none.
	Congestion string
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error

	browser atomic.Pointer[chrome.Browser] // nil is the built-in Chrome
	kept    kept

	cookies knock.Cookies
}

// LookLike has connections from now on look like a browser's. A device has one family of browsers and keeps it; a newer
// version takes the place of an older one at any time.
func (d *Dialer) LookLike(b *chrome.Browser) { d.browser.Store(b) }

func (d *Dialer) looksLike() *chrome.Browser {
	if b := d.browser.Load(); b != nil {
		return b
	}
	return chrome.BuiltIn(chrome.FamilyChrome)
}

// Forget forgets the gateways' tickets: the network is another.
func (d *Dialer) Forget() { d.kept.forget() }

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// Dial implements transport.Dialer.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	sock, err := tcp.Dial(ctx, Name, ep.Addr, d.Congestion, d.Control)
	if err != nil {
		return nil, err
	}
	return d.over(ctx, sock, ep)
}

// Over opens a link over a connection that there is, and owns it from then on. Its errors are *transport.DialError.
func (d *Dialer) Over(ctx context.Context, under net.Conn, ep transport.Endpoint) (transport.Conn, error) {
	sock := &tcp.Conn{Conn: under}
	sock.Link()
	return d.over(ctx, sock, ep)
}

func (d *Dialer) over(ctx context.Context, sock *tcp.Conn, ep transport.Endpoint) (transport.Conn, error) {
	browser := d.looksLike()
	c := &conn{sock: sock, closed: make(chan struct{})}
	if err := d.handshake(ctx, c, browser, ep); err != nil {
		sock.Close()
		stage := transport.StageHandshake
		if errors.Is(err, transport.ErrPin) {
			stage = transport.StagePin
		}
		return nil, &transport.DialError{Transport: Name, Stage: stage, Err: err}
	}
	if err := d.open(c, browser, ep); err != nil {
		sock.Close()
		return nil, &transport.DialError{Transport: Name, Stage: transport.StageDoor, Err: err}
	}
	if !c.sock.NonBlocking() { // nobody can tell whether a write would wait
		return struct {
			transport.Conn
			transport.BatchWriter
		}{c, c}, nil
	}
	return c, nil
}

// handshake does TLS's, as the client.
func (d *Dialer) handshake(ctx context.Context, c *conn, browser *chrome.Browser, ep transport.Endpoint) error {
	config := &tls.Config{
		ServerName:         ep.Name,
		InsecureSkipVerify: true, // the pin takes the place of the CAs
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			c.serverKey, err = transport.CheckPin(ep.Pins, s.PeerCertificates)
			return err
		},
	}
	if ep.Network != "" {
		config.ClientSessionCache = cache{&d.kept, placeOf(browser, ep)}
	}
	t, err := browser.Client(chrome.Fragmented(c.sock, ep.Fragment), config)
	if err != nil {
		return err
	}
	switch err := t.HandshakeContext(ctx); {
	case err != nil:
		return chrome.Reason(err)
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

// open sends the request that knocks.
func (d *Dialer) open(c *conn, browser *chrome.Browser, ep transport.Endpoint) error {
	k, err := ep.Opener.Knock(c)
	if err != nil {
		return err
	}
	cookie, sent, err := d.cookies.Hide(c.serverKey, k)
	if err != nil {
		return err
	}
	c.knock = sent
	marker, err := c.marker()
	if err != nil {
		return err
	}
	c.entry = &entry{marker: marker, filler: ep.Opener}
	opening := browser.Opening(doorstep.Authority(ep, "443"), cookie)
	if n := browser.TrailerLen(); n > 0 { // behind the request it would mean nothing
		last := &opening[len(opening)-1]
		*last = ep.Opener.AppendFiller((*last)[:len(*last)-n], n)
	}
	for _, record := range opening {
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
