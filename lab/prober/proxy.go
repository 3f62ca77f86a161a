package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"time"
)

// Is it a proxy, and does it proxy? It is asked to connect to the control, and the control is asked for something there.

const proxies = "a proxy that connects"

var (
	proxyKind = Kind{Family: "proxy", Network: "tcp", Knocks: true}

	proxyProbes = []Probe{
		simple{proxyKind.named("SOCKS5"), socks5},
		simple{proxyKind.named("SOCKS4"), socks4},
		simple{proxyKind.named("HTTP CONNECT"), func(ctx context.Context, t *Target) Answer {
			c, bad := t.connect(ctx)
			if c == nil {
				return bad
			}
			defer c.Close()
			return t.tunnel(c)
		}},
		simple{proxyKind.named("HTTP CONNECT inside TLS"), func(ctx context.Context, t *Target) Answer {
			c, bad := t.connect(ctx)
			if c == nil {
				return bad
			}
			defer c.Close()
			c.until(time.Now().Add(t.Patience))
			seen := &watched{Conn: c}
			inner := tls.Client(seen, &tls.Config{InsecureSkipVerify: true, ServerName: recordedName(t), NextProtos: h1})
			if err := inner.HandshakeContext(ctx); err != nil {
				return t.noHandshake(seen, err)
			}
			return t.tunnel(&conn{inner, ctx, func() bool { return true }})
		}},
	}
)

func halfClosed(name string, parts ...[]byte) Probe {
	return simple{httpKind.named(name), func(ctx context.Context, t *Target) Answer { return t.talk(ctx, true, parts...) }}
}

// through asks the control for something, through the proxy that c is, and says what came.
func (t *Target) through(c *conn) Answer {
	c.Write([]byte(getPage))
	return tunnelled(t.read(c))
}

func tunnelled(got []byte, end End) Answer {
	return Answer{What: proxies + ": " + describe(got), Bytes: len(got), End: end}
}

// rest is the answer of what is no proxy: head has come already.
func (t *Target) rest(c *conn, head []byte, err error) Answer {
	if err != nil {
		return Answer{What: describe(head), Bytes: len(head), End: ending(err)}
	}
	got, end := t.read(c)
	got = append(head, got...)
	return Answer{What: describe(got), Bytes: len(got), End: end}
}

func socks5(ctx context.Context, t *Target) Answer {
	c, bad := t.connect(ctx)
	if c == nil {
		return bad
	}
	defer c.Close()
	c.Write([]byte{5, 1, 0})
	head, err := t.readSome(c, 2)
	if err != nil || !bytes.Equal(head, []byte{5, 0}) {
		if bytes.Equal(head, []byte{5, 0xff}) || bytes.Equal(head, []byte{5, 2}) {
			return Answer{What: "SOCKS5, with authentication", Bytes: 2, End: Open}
		}
		return t.rest(c, head, err)
	}
	request := []byte{5, 1, 0, 1}
	if t.Beyond.Addr().Is6() {
		request[3] = 4
	}
	request = append(request, t.Beyond.Addr().AsSlice()...)
	c.Write(binary.BigEndian.AppendUint16(request, t.Beyond.Port()))
	if head, err = t.readSome(c, 4); err != nil || head[0] != 5 {
		return t.rest(c, head, err)
	}
	if head[1] != 0 {
		return Answer{What: fmt.Sprintf("SOCKS5, refuses with %d", head[1]), Bytes: 6, End: Open}
	}
	left := 6
	if head[3] == 4 {
		left = 18
	}
	if head, err = t.readSome(c, left); err != nil {
		return t.rest(c, head, err)
	}
	return t.through(c)
}

func socks4(ctx context.Context, t *Target) Answer {
	if !t.Beyond.Addr().Is4() {
		return notSent("SOCKS4 knows IPv4 only")
	}
	c, bad := t.connect(ctx)
	if c == nil {
		return bad
	}
	defer c.Close()
	request := binary.BigEndian.AppendUint16([]byte{4, 1}, t.Beyond.Port())
	c.Write(append(append(request, t.Beyond.Addr().AsSlice()...), 0))
	head, err := t.readSome(c, 8)
	if err != nil || head[0] != 0 || head[1] != 90 {
		return t.rest(c, head, err)
	}
	return t.through(c)
}

// tunnel asks by HTTP's CONNECT.
func (t *Target) tunnel(c *conn) Answer {
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", t.Beyond)
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) && len(head) < 4096 {
		b, err := t.readSome(c, 1)
		if head = append(head, b...); err != nil {
			return t.rest(c, head, err)
		}
	}
	if fields := bytes.Fields(head); len(fields) < 2 || string(fields[1]) != "200" || !bytes.HasPrefix(head, []byte("HTTP/1.")) ||
		bytes.Contains(bytes.ToLower(head), []byte("content-length")) {
		return t.rest(c, head, nil)
	}
	c.Write([]byte(getPage))
	got, end := t.read(c)
	if len(got) > 0 && !bytes.HasPrefix(got, []byte("HTTP/")) && !isRecord(got) {
		// A page: some web servers answer CONNECT as they do GET, and Go's leave out the length then (1.26.11 does,
		// 1.26.8 does not).
		return Answer{What: describe(append(head, got...)), Bytes: len(head) + len(got), End: end}
	}
	return tunnelled(got, end)
}
