package pipe

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Client makes a link's connection of under, which it owns, as a Dialer's Dial does: it returns when the handshake is
// complete, the pin has matched, and the knock is on its way. Its errors are *transport.DialError of the named transport.
func Client(ctx context.Context, under net.Conn, name string, ep transport.Endpoint) (transport.Conn, error) {
	return Resume(ctx, under, name, ep, nil)
}

// Resume is Client with what earlier connections left behind: the gateway's tickets, each of which is used once. Whoever
// carries the bytes can tell which connection a ticket came from, so a cache is for one network.
func Resume(ctx context.Context, under net.Conn, name string, ep transport.Endpoint, tickets tls.ClientSessionCache) (transport.Conn, error) {
	c := &conn{under: &tcp.Conn{Conn: under}, name: name, closed: make(chan struct{})}
	c.under.Link()
	c.end.Conn = c.under
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { under.Close() }) // also a write that waits
	stage, err := c.open(ctx, ep, tickets)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		under.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &transport.DialError{Transport: name, Stage: stage, Err: err}
	}
	if c.under.NonBlocking() {
		return direct{c}, nil
	}
	return c, nil
}

// open does the handshake and knocks. It returns how far it came.
func (c *conn) open(ctx context.Context, ep transport.Endpoint, tickets tls.ClientSessionCache) (transport.Stage, error) {
	config := &tls.Config{
		InsecureSkipVerify: true, // the pin takes the place of the CAs
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   keyExchange,
		VerifyConnection: func(s tls.ConnectionState) error {
			var err error
			if c.serverKey, err = transport.CheckPin(ep.Pins, s.PeerCertificates); err == nil {
				c.under.Hold() // Finished goes with the knock
			}
			return err
		},
	}
	if tickets != nil && len(ep.Pins) > 0 {
		config.ClientSessionCache = once{tickets, base64.RawStdEncoding.EncodeToString(ep.Pins[0][:])}
	}
	c.Conn = tls.Client(&c.end, config)
	switch err := c.Conn.HandshakeContext(ctx); {
	case errors.Is(err, transport.ErrPin):
		return transport.StagePin, transport.ErrPin
	case err != nil:
		return transport.StageHandshake, reason(err)
	}
	var err error
	if c.knock, err = ep.Opener.Knock(c); err != nil {
		return transport.StageDoor, err
	}
	if len(c.knock) > transport.MaxKnock {
		return transport.StageDoor, fmt.Errorf("a knock of %d bytes: there is room for %d", len(c.knock), transport.MaxKnock)
	}
	_, err = c.Conn.Write(appendKnock(nil, c.knock))
	if rerr := c.under.Release(); err == nil {
		err = rerr
	}
	return transport.StageDoor, err
}

// once keeps tickets under the gateway's pin, and gives each away once.
type once struct {
	tls.ClientSessionCache
	key string
}

// Get implements tls.ClientSessionCache.
func (o once) Get(string) (*tls.ClientSessionState, bool) {
	s, ok := o.ClientSessionCache.Get(o.key)
	if ok {
		o.ClientSessionCache.Put(o.key, nil)
	}
	return s, ok
}

// Put implements tls.ClientSessionCache.
func (o once) Put(_ string, s *tls.ClientSessionState) { o.ClientSessionCache.Put(o.key, s) }
