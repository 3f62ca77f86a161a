package quic

import (
	"context"
	"crypto/tls"
	"io"

	quicgo "github.com/sagernet/quic-go"
	"github.com/sagernet/quic-go/http3"

	"github.com/godwit-vpn/godwit/internal/transport"
)

var noKnock = make([]byte, transport.MaxKnock)

// dispatch is asked by the HTTP/3 server what to do with a stream of which the first frame's type has come. It looks at
// the first request of a connection, and keeps the stream if the knock in it opens the door. Looking takes nothing away:
// a visitor's request is then served as if nobody had looked, and the server, which has nothing to say before a request
// is complete, would have waited as long for the same bytes.
func (l *Listener) dispatch(kind http3.FrameType, stream *quicgo.Stream, err error) (bool, error) {
	g, _ := stream.Context().Value(guestKey{}).(*guest)
	if err != nil || g == nil {
		return false, nil
	}
	if c := g.link.Load(); c != nil && kind == laneKind {
		io.CopyN(io.Discard, stream, 1) // laneKind, which has been looked at
		stream.Close()
		c.takeLane(stream)
		return true, nil
	}
	if kind != frameHeaders || stream.StreamID() != 0 {
		return false, nil
	}
	used, block := peekBlock(stream, l.cookie*5/8) // shorter than a knock: it is not even decoded
	if block == nil {
		return false, nil
	}
	state := g.conn.ConnectionState()
	if state.TLS.CurveID != tls.X25519MLKEM768 || state.Used0RTT {
		return false, nil // no link is made of such
	}
	c := newConn(g.conn, state.TLS.ExportKeyingMaterial, l.cfg.Key)
	c.open = func() (outgoing, error) { return openOneWay(g.conn) }
	c.knock = findKnock(block, l.cookie)
	// Who does not knock is tried, too: that something is computed for a cookie of one length only could be timed.
	tried := c.knock
	if tried == nil {
		tried = noKnock
	}
	if opened := l.cfg.Door.Opens(c, tried); c.knock == nil || !opened {
		return false, nil
	}
	if _, err := io.CopyN(io.Discard, stream, int64(used)); err != nil || !l.guests.Leave(g.place) {
		return false, err
	}
	c.hosted = make(chan func(), 1) // one, so that Host does not wait
	c.reply = &reply{length: l.answers.length(), filler: l.cfg.Door}
	c.steer()
	c.begin(stream)
	g.link.Store(c)
	select {
	case l.conns <- hostedConn{c}:
		c.serve()
	case <-l.closed:
		c.Close()
	}
	return true, nil
}

// peekBlock waits for the whole first frame, and returns its body and how long it is with its header; nil if it is too
// short or too long to be of interest, or does not come.
func peekBlock(stream *quicgo.Stream, least int) (used int, block []byte) {
	var head [9]byte // the type takes one byte, in what a client sends
	for n := 2; n <= len(head); n++ {
		if _, err := stream.Peek(head[:n]); err != nil {
			return 0, nil
		}
		kind, length, headLen, err := parseHead(head[:n])
		if err != nil {
			continue
		}
		if kind != frameHeaders || length < uint64(least) || length > maxBlock {
			return 0, nil
		}
		b := make([]byte, headLen+int(length))
		if _, err := stream.Peek(b); err != nil {
			return 0, nil
		}
		return len(b), b[headLen:]
	}
	return 0, nil
}

type guestKey struct{}

// mark is the library's hook for a connection's context, from which those of its streams are made.
func mark(ctx context.Context, g *guest) context.Context {
	return context.WithValue(ctx, guestKey{}, g)
}
