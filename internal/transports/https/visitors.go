package https

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"

	"github.com/godwit-vpn/godwit/internal/transports/crowd"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// visitors are the website's connections, as the HTTP server sees them, from the moment TCP's handshake is done until
// they end or turn out to be links. There is room for a crowd of them: one that has spoken HTTP/2 and sits there takes some
// 45 KiB, all of them Go's own.
type visitors struct {
	net.Listener
	congestion string
	crowd      *crowd.Crowd
}

// visitor is one of them. It is TLS's connection.
type visitor struct {
	*tcp.Conn
	all   *visitors
	place *crowd.Member
}

// Bounded bounds a listener's connections as the website's are.
func Bounded(l net.Listener, key [sha256.Size]byte) net.Listener {
	return newVisitors(l, tcp.SystemCongestion, key)
}

func newVisitors(l net.Listener, congestion string, key [sha256.Size]byte) *visitors {
	return &visitors{Listener: l, congestion: congestion, crowd: crowd.New("visitors", key)}
}

// Accept implements net.Listener.
func (v *visitors) Accept() (net.Conn, error) {
	c, err := v.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp.Tune(c, v.congestion)
	one := &visitor{Conn: &tcp.Conn{Conn: c}, all: v}
	if one.place = v.crowd.Enter(c.RemoteAddr(), func() { one.Conn.Close() }); one.place == nil {
		c.Close()
		return nil, net.ErrClosed
	}
	return one, nil
}

// leave takes one out, and reports whether it was there.
func (v *visitors) leave(one *visitor) bool { return v.crowd.Leave(one.place) }

// leave takes a connection out that is a visitor no more; it is closed by whoever has it now.
func leave(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	one, ok := c.(*visitor)
	if !ok {
		return
	}
	one.all.leave(one)
	if tcp, ok := one.Conn.Conn.(*net.TCPConn); ok {
		tcp.SetKeepAlive(false) // the session probes its links itself, and not by the clock
	}
}

// end closes the listener and the connections. The listener's own Close, which the HTTP server calls when it can accept
// no more, leaves them be.
func (v *visitors) end() error {
	err := v.Listener.Close()
	v.crowd.Close()
	return err
}

// Close implements net.Conn.
func (one *visitor) Close() error {
	one.all.leave(one)
	return one.Conn.Close()
}

// CloseWrite ends our direction alone, which the HTTP server does where a request was not read to its end: closed at once, the
// connection would be reset, as no other server's is.
func (one *visitor) CloseWrite() error {
	if c, ok := one.Conn.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
