package prober

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Probe is one way of speaking to a server. It may be sent many times, also at once.
type Probe interface {
	Kind() Kind
	// Send speaks to the target and says what it saw; the error, if there is one, is a part of that. It returns soon after
	// ctx is done, whatever it saw by then. It must send the same bytes to all targets whose Rand and Recorded are the same,
	// but for what a handshake with that target demands.
	Send(ctx context.Context, t *Target) Answer
}

// Kind says what a probe is.
type Kind struct {
	Name    string
	Family  string
	Network string // "tcp" or "udp"
	// Delayed probes come as long after the flow as replays do; the others at once.
	Delayed bool
	// Staged ones are sent only to a server that has answered a replay.
	Staged bool
	// Knocks are well-formed requests of one of the protocols that ordinary servers speak: 94 % of them answer one (B3).
	Knocks bool
}

// All is every probe there is, in the order of reports.
func All() []Probe {
	return slices.Concat(replays, randoms, tlsProbes, floods, httpProbes, torProbes, proxyProbes, otherProbes, openvpnProbes,
		udpProbes)
}

// simple is a Probe made of a function.
type simple struct {
	kind Kind
	send func(context.Context, *Target) Answer
}

func (s simple) Kind() Kind                                 { return s.kind }
func (s simple) Send(ctx context.Context, t *Target) Answer { return s.send(ctx, t) }

// fixed sends the same to everyone.
func fixed(k Kind, parts ...[]byte) Probe {
	return simple{k, func(ctx context.Context, t *Target) Answer { return t.talk(ctx, false, parts...) }}
}

// Target is whom a probe is sent to.
type Target struct {
	Network string
	Addr    netip.AddrPort
	// Recorded is what the user sent first, packet by packet; empty if that is not known.
	Recorded [][]byte
	// Beyond is where a proxy is asked to connect.
	Beyond   netip.AddrPort
	Patience time.Duration
	Rand     *rand.Rand

	dial func(context.Context) (net.Conn, error)
}

const (
	// maxAnswer is as much of an answer as is looked at.
	maxAnswer = 256 << 10
	// apart is the time between two parts of what is sent, so that they are two packets.
	apart = 10 * time.Millisecond
)

// quiet is how long nothing more must come until an answer counts as whole.
func (t *Target) quiet() time.Duration { return t.Patience / 4 }

// random is so many random bytes.
func (t *Target) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(t.Rand.Uint32())
	}
	return b
}

// talk connects, sends, and looks at what comes: until the end, until it is quiet, or as long as patience lasts. half closes
// the own half behind what is sent.
func (t *Target) talk(ctx context.Context, half bool, parts ...[]byte) Answer {
	a, _ := t.hear(ctx, half, parts...)
	return a
}

// hear is talk for those who want the bytes.
func (t *Target) hear(ctx context.Context, half bool, parts ...[]byte) (Answer, []byte) {
	c, bad := t.connect(ctx)
	if c == nil {
		return bad, nil
	}
	defer c.Close()
	for i, p := range parts {
		if i > 0 {
			sleep(ctx, apart)
		}
		c.Write(p) // if that fails, reading says more
	}
	if half {
		c.CloseWrite()
	}
	got, end := t.read(c)
	a := Answer{What: describe(got), Bytes: len(got), End: end}
	if len(got) > 0 && slices.Equal(got, slices.Concat(parts...)) {
		a.What = "an echo"
	}
	return a, got
}

// conn is a connection whose reads end with the context, too.
type conn struct {
	net.Conn
	ctx  context.Context
	stop func() bool
}

// connect returns nil and an Answer if there is no connection.
func (t *Target) connect(ctx context.Context) (*conn, Answer) {
	dialing, cancel := context.WithTimeout(ctx, t.Patience)
	defer cancel()
	c, err := t.dial(dialing)
	if err != nil {
		return nil, Answer{What: "no connection", End: ending(err)}
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return &conn{c, ctx, stop}, Answer{}
}

func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

func (c *conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// until sets the deadline, but never past the context's end.
func (c *conn) until(d time.Time) {
	c.SetDeadline(d)
	if c.ctx.Err() != nil {
		c.SetDeadline(time.Unix(1, 0))
	}
}

// read reads all that comes.
func (t *Target) read(c *conn) ([]byte, End) {
	end := time.Now().Add(t.Patience)
	var got []byte
	b := make([]byte, 16<<10)
	for len(got) < maxAnswer {
		d := end
		if len(got) > 0 {
			d = time.Now().Add(t.quiet())
		}
		c.until(d)
		n, err := c.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			return got, ending(err)
		}
	}
	return got, Open
}

// readSome reads so many bytes, within patience. It returns what it read with an error, too.
func (t *Target) readSome(c *conn, n int) ([]byte, error) {
	c.until(time.Now().Add(t.Patience))
	b := make([]byte, n)
	n, err := io.ReadFull(c, b)
	return b[:n], err
}
