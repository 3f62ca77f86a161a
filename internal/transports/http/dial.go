package http

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	mrand "math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Dialer dials gateways over plain HTTP. It implements transport.Dialer.
type Dialer struct {
	// Congestion names the congestion control to ask for; empty prefers BBR, "system" asks for none.
	Congestion string
	// Control, if not nil, is called for every socket before it connects (net.Dialer.Control).
	Control func(network, address string, c syscall.RawConn) error

	patience time.Duration // for tests; patience if it is zero
}

// Transport implements transport.Dialer.
func (d *Dialer) Transport() string { return Name }

// Dial implements transport.Dialer. A server that closes after its first answer costs a second connection, after
// transport.DialSpacing.
func (d *Dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	began := time.Now()
	v, err := d.connect(ctx, ep)
	if err != nil {
		return nil, err
	}
	over, err := v.page(ctx)
	if err == nil && over {
		v.sock.Close()
		if err := ep.Another(ctx, began); err != nil {
			return nil, dialError(err)
		}
		cookie, nonce := v.cookie, v.nonce
		if v, err = d.connect(ctx, ep); err != nil {
			return nil, err
		}
		v.cookie, v.nonce = cookie, nonce
	}
	var body *upload
	if err == nil {
		body, err = v.post()
	}
	if err != nil {
		v.sock.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, dialError(err)
	}
	// The inner handshake begins with the upload. Reading its answer reads the POST's first.
	c, err := pipe.Client(ctx, body, Name, ep)
	if body.refused != nil {
		return nil, dialError(body.refused)
	}
	return c, err
}

func dialError(err error) error {
	return &transport.DialError{Transport: Name, Stage: transport.StageDoor, Err: err}
}

// visit is one connection to the server.
type visit struct {
	sock  *tcp.Conn
	ep    transport.Endpoint
	host  string
	limit *io.LimitedReader // bounds what is read before the answer to the POST
	r     *bufio.Reader
	wait  time.Duration

	cookie string // that brought the nonce
	nonce  []byte
}

const (
	errNoGateway = transport.Reason("no gateway answers: the answer came without a nonce")
	errNoProof   = transport.Reason("the access key cannot prove itself ahead of TLS")
	errHeld      = transport.Reason("something on the way holds uploads back until they are complete")
)

func (d *Dialer) connect(ctx context.Context, ep transport.Endpoint) (*visit, error) {
	sock, err := tcp.Dial(ctx, Name, ep.Addr, d.Congestion, d.Control)
	if err != nil {
		return nil, err
	}
	v := &visit{sock: sock, ep: ep, host: doorstep.Authority(ep, "80"), wait: patience}
	if d.patience > 0 {
		v.wait = d.patience
	}
	v.limit = &io.LimitedReader{R: sock, N: doorstep.MaxPage + doorstep.MaxPageHeader}
	v.r = bufio.NewReader(v.limit)
	return v, nil
}

// page asks for the page. over says that the connection is over with it.
func (v *visit) page(ctx context.Context) (over bool, err error) {
	stop := context.AfterFunc(ctx, func() { v.sock.Close() })
	defer stop()
	if _, err := v.sock.Write(chrome.PlainRequest(v.host)); err != nil {
		return false, err
	}
	header, over, err := doorstep.ReadPage(v.r)
	if err != nil {
		return false, err
	}
	if v.cookie, v.nonce = doorstep.Nonce(header); v.nonce == nil {
		return false, errNoGateway
	}
	return over, nil
}

// post begins the upload.
func (v *visit) post() (*upload, error) {
	cookie, shade := doorstep.Answer(v.cookie, v.nonce, v.ep)
	if cookie == "" {
		return nil, errNoProof
	}
	length := leastUpload + mrand.Int64N(uploadSpread)
	if _, err := v.sock.Write(chrome.PlainPost(v.host, cookie, length)); err != nil {
		return nil, err
	}
	u := &upload{visit: v, conn: conn{Below: tcp.Below{Conn: v.sock}, left: length}}
	u.shade, u.unshade = shading(shade)
	u.in = (*answered)(u)
	return u, nil
}

// upload is the client's conn.
type upload struct {
	conn
	visit   *visit
	refused error // what is wrong with the answer to the POST
}

// answered reads the answer to the POST, and from then on its body.
type answered upload

// Read implements io.Reader.
func (u *answered) Read(b []byte) (int, error) {
	if u.visit == nil {
		return 0, u.refused
	}
	v := u.visit
	u.visit = nil
	v.sock.SetReadDeadline(time.Now().Add(v.wait))
	resp, err := http.ReadResponse(v.r, nil)
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		u.refused = errHeld
	case err != nil:
		u.refused = err
	case resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != contentType:
		u.refused = transport.ErrDoor
	}
	if u.refused != nil {
		return 0, u.refused
	}
	v.sock.SetReadDeadline(time.Time{})
	v.limit.N = math.MaxInt64
	u.in = resp.Body
	return u.in.Read(b)
}
