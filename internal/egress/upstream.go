package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// upstream is a SOCKS5 proxy (RFC 1928) that dials for us.
//
//	us                                      upstream
//	05 n methods(n)                     ──>
//	                                    <──  05 method
//	01 n user(n) m password(m)          ──>               only for method 2 (RFC 1929)
//	                                    <──  01 status
//	05 01 00 type address port(2)       ──>               type 1: 4 bytes, 3: length and name, 4: 16 bytes
//	                                    <──  05 reply 00 type address port(2)
//
// It is read to the byte, so that what the destination says first is not lost.
type upstream struct {
	addr           string // host:port
	user, password string
}

func parseUpstream(s string) (*upstream, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "socks5" || u.Hostname() == "" || u.Port() == "" || u.Path != "" && u.Path != "/" ||
		u.RawQuery != "" || u.Fragment != "" {
		// The text may hold a password, wherever the mistake is.
		return nil, errors.New("egress: config: upstream: want socks5://[user:password@]host:port")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return nil, fmt.Errorf("egress: config: upstream: port %q is not a number from 1 to 65535", u.Port())
	}
	up := &upstream{addr: u.Host}
	if u.User != nil {
		up.user = u.User.Username()
		up.password, _ = u.User.Password()
		if len(up.user) == 0 || len(up.user) > 255 || len(up.password) > 255 {
			return nil, errors.New("egress: config: upstream: the user has 1 to 255 bytes, and the password up to 255")
		}
	}
	return up, nil
}

// dialUpstream has the upstream connect to t. Of a name the policy can check only that it is one, and that it does not
// belong inside a network by its look: what it resolves to is the upstream's to judge.
func (s *Sockets) dialUpstream(ctx context.Context, t flow.Target) (net.Conn, *flow.Error) {
	if a, ok := t.Addr(); ok {
		if err := s.admit(netip.AddrPortFrom(a, t.Port)); err != nil {
			return nil, err
		}
	} else if !validName(t.Host) {
		return nil, flow.Errorf(flow.CodeNameNotFound, "not a name that a host can have")
	} else if dnsmessage.Inside(t.Host) {
		return nil, flow.Errorf(flow.CodeDenied, "a name that means something only inside a network")
	}
	// Whom the operator named is not subject to the policy.
	d := net.Dialer{KeepAliveConfig: s.dialer[0].KeepAliveConfig}
	conn, err := d.DialContext(ctx, "tcp", s.upstream.addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctxError(ctx, "reaching the upstream proxy")
		}
		fe := errUpstream("the upstream proxy cannot be reached")
		s.warnUpstream(fe)
		return nil, fe
	}
	// The context ends the conversation by way of the deadline; it must not do so after the connection is handed out.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	fe := s.upstream.connect(conn, t)
	if !stop() && fe == nil {
		fe = ctxError(ctx, "waiting for the upstream proxy")
	}
	if fe != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctxError(ctx, "waiting for the upstream proxy")
		}
		if fe.Code == flow.CodeNetUnreach {
			s.warnUpstream(fe)
		}
		return nil, fe
	}
	return conn, nil
}

// errUpstream is a failure that says nothing about the destination.
func errUpstream(text string) *flow.Error {
	return &flow.Error{Code: flow.CodeNetUnreach, Detail: text}
}

// warnUpstream tells the operator what only they can mend, at most once a minute.
func (s *Sockets) warnUpstream(err *flow.Error) {
	now := time.Since(s.started)
	if last := s.warned.Load(); last == 0 || now-time.Duration(last) > time.Minute {
		if s.warned.CompareAndSwap(last, int64(max(now, 1))) {
			s.log.Warn("upstream proxy", "err", err)
		}
	}
}

// connect speaks SOCKS5 until the upstream is connected to t.
func (u *upstream) connect(c io.ReadWriter, t flow.Target) *flow.Error {
	broken := errUpstream("the upstream proxy does not speak SOCKS5")
	var b [512]byte
	method := byte(0)
	if u.user != "" {
		method = 2
	}
	if _, err := c.Write([]byte{5, 1, method}); err != nil {
		return broken
	}
	if _, err := io.ReadFull(c, b[:2]); err != nil || b[0] != 5 {
		return broken
	}
	if b[1] != method {
		return errUpstream("the upstream proxy wants another way to log in")
	}
	if method == 2 {
		m := append(b[:0], 1, byte(len(u.user)))
		m = append(append(m, u.user...), byte(len(u.password)))
		if _, err := c.Write(append(m, u.password...)); err != nil {
			return broken
		}
		if _, err := io.ReadFull(c, b[:2]); err != nil {
			return broken
		}
		if b[1] != 0 {
			return errUpstream("the upstream proxy refused the user or the password")
		}
	}
	m := append(b[:0], 5, 1, 0)
	if a, ok := t.Addr(); !ok {
		m = append(append(m, 3, byte(len(t.Host))), t.Host...)
	} else if a.Is4() {
		m = append(append(m, 1), a.AsSlice()...)
	} else {
		m = append(append(m, 4), a.AsSlice()...)
	}
	if _, err := c.Write(append(m, byte(t.Port>>8), byte(t.Port))); err != nil {
		return broken
	}
	if _, err := io.ReadFull(c, b[:5]); err != nil || b[0] != 5 {
		return broken
	}
	if code := socksCode(b[1]); code != flow.CodeNone {
		return &flow.Error{Code: code, Detail: "upstream proxy: " + code.String()}
	}
	rest := 0 // of the bound address, whose first byte is read, and the port
	switch b[3] {
	case 1:
		rest = 3 + 2
	case 3:
		rest = int(b[4]) + 2
	case 4:
		rest = 15 + 2
	default:
		return broken
	}
	if _, err := io.ReadFull(c, b[:rest]); err != nil {
		return broken
	}
	return nil
}

// socksCode is the code for a reply (RFC 1928 §6).
func socksCode(reply byte) flow.Code {
	switch reply {
	case 0:
		return flow.CodeNone
	case 2:
		return flow.CodeDenied
	case 3, 8: // 8: a kind of address it cannot reach
		return flow.CodeNetUnreach
	case 5:
		return flow.CodeRefused
	case 6:
		return flow.CodeTimeout
	}
	return flow.CodeHostUnreach // 4, and 1, "general failure", which is most often a name that does not resolve
}
