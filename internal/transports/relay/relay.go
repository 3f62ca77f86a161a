// Package relay is the pipe through a relay: a website elsewhere, with a door of its own, that forwards bytes to the
// gateway and can read nothing. What goes through it is the whole of transport https, so that the gateway, and whoever
// watches between the two, see a browser's visit that comes from the relay.
//
//	client ── https: the relay's TLS, its door ── relay ── TCP ── gateway
//	   └─────────── https: the gateway's TLS, its pin, its door ─────┘
//
// Between client and relay the bytes come in frames, since what transport https puts at the beginning of a connection to
// give it an ordinary shape is no part of them:
//
//	kind (8)     1 filler, to be skipped: PADDING, as on every link; 2 bytes of the pipe
//	length (24)  of what follows
package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// Name is the transport's name.
const Name = "relay"

// Dialer dials gateways through relays. It implements transport.Dialer.
type Dialer struct {
	// Congestion and Control are as in https.Dialer.
	Congestion string
	Control    func(network, address string, c syscall.RawConn) error

	once         sync.Once
	outer, inner https.Dialer
}

// LookLike has both connections look like a browser's, from now on, as https.Dialer's does.
func (d *Dialer) LookLike(b *chrome.Browser) {
	d.outer.LookLike(b)
	d.inner.LookLike(b)
}

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// Ends is the transport that a link through a relay ends in, at the gateway: what the device's proof has to name.
func (d *Dialer) Ends() string { return https.Name }

// Forget forgets the relays' and the gateways' tickets: the network is another.
func (d *Dialer) Forget() {
	d.outer.Forget()
	d.inner.Forget()
}

// Dial implements transport.Dialer. ep.Via is the relay.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	d.once.Do(func() { d.outer.Congestion, d.outer.Control = d.Congestion, d.Control })
	if ep.Via == nil {
		return nil, &transport.DialError{Transport: Name, Stage: transport.StageConnect, Err: errors.New("no relay to go through")}
	}
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	outer, err := d.outer.Dial(ctx, *ep.Via)
	if err != nil {
		return nil, renamed(err)
	}
	if ep.Network != "" {
		ep.Network += " by " + ep.Via.Addr // a relay sees no ticket that another one has carried
	}
	conn, err := d.inner.Over(ctx, Framed(outer), ep)
	if err != nil {
		return nil, renamed(err)
	}
	return conn, nil
}

// renamed has an error of transport https say what went over it.
func renamed(err error) error {
	var de *transport.DialError
	if errors.As(err, &de) {
		return &transport.DialError{Transport: Name, Stage: de.Stage, Err: de.Err}
	}
	return err
}

const (
	kindFiller = 1
	kindBytes  = 2

	headerLen = 4
	maxFrame  = 1<<24 - 1
)

// framed is a connection between client and relay as a pipe of bytes.
type framed struct {
	transport.Conn
	left   int // of the frame under way
	writes sync.Mutex
}

// Framed makes a pipe of bytes of a connection between client and relay, at either end.
func Framed(c transport.Conn) net.Conn { return &framed{Conn: c} }

// Read implements net.Conn.
func (f *framed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for f.left == 0 {
		var head [headerLen]byte
		if _, err := io.ReadFull(f.Conn, head[:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF
			}
			return 0, err
		}
		n := int(binary.BigEndian.Uint32(head[:]) & maxFrame)
		switch head[0] {
		case kindBytes:
			f.left = n
		case kindFiller:
			if _, err := io.CopyN(io.Discard, f.Conn, int64(n)); err != nil {
				return 0, err
			}
		default:
			return 0, errFrame
		}
	}
	n, err := f.Conn.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

var errFrame = errors.New("relay: a frame of no known kind")

// Write implements net.Conn.
func (f *framed) Write(p []byte) (int, error) {
	f.writes.Lock()
	defer f.writes.Unlock()
	for sent := 0; sent < len(p); {
		part := p[sent:min(len(p), sent+maxFrame)]
		head := binary.BigEndian.AppendUint32(nil, kindBytes<<24|uint32(len(part)))
		if err := transport.WriteBatch(f.Conn, [][]byte{head, part}); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return len(p), nil
}
