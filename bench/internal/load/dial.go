package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// dial connects to a port of the target, through the SOCKS5 proxy if there is one (RFC 1928, no authentication). ctx
// bounds the connection's whole life only while it is being made.
func (c Config) dial(ctx context.Context, port int) (net.Conn, error) {
	var d net.Dialer
	if c.Proxy == "" {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(c.Target, strconv.Itoa(port)))
	}
	conn, err := d.DialContext(ctx, "tcp", c.Proxy)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	_, err = socks(conn, socksConnect, c.Target, port)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return conn, nil
}

// SOCKS5's commands.
const (
	socksConnect   = 1
	socksAssociate = 3
)

// socks asks for host, an address or a name, and returns the address that it is told, if it is one:
//
//	05 01 00 ─►            version, one method: none
//	          ◄─ 05 00
//	05 command 00 type host port ─►
//	          ◄─ 05 code 00 type addr port
func socks(conn io.ReadWriter, command byte, host string, port int) (bound netip.AddrPort, err error) {
	var b [255 + 2]byte
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		return bound, err
	}
	if _, err := io.ReadFull(conn, b[:2]); err != nil {
		return bound, err
	}
	if b[0] != 5 || b[1] != 0 {
		return bound, fmt.Errorf("not a SOCKS5 server without authentication: %x", b[:2])
	}
	req := socksAddress([]byte{5, command, 0}, host, port)
	if _, err := conn.Write(req); err != nil {
		return bound, err
	}
	if _, err := io.ReadFull(conn, b[:4]); err != nil {
		return bound, err
	}
	if b[1] != 0 {
		return bound, fmt.Errorf("SOCKS5 code %d", b[1])
	}
	kind, rest := b[3], 0
	switch kind {
	case 1:
		rest = 4 + 2
	case 4:
		rest = 16 + 2
	case 3:
		if _, err := io.ReadFull(conn, b[:1]); err != nil {
			return bound, err
		}
		rest = int(b[0]) + 2
	default:
		return bound, fmt.Errorf("SOCKS5 address type %d", kind)
	}
	if _, err := io.ReadFull(conn, b[:rest]); err != nil {
		return bound, err
	}
	if addr, ok := netip.AddrFromSlice(b[:rest-2]); ok && kind != 3 {
		bound = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[rest-2:]))
	}
	return bound, nil
}

// socksAddress appends type, host and port.
func socksAddress(b []byte, host string, port int) []byte {
	if addr, err := netip.ParseAddr(host); err != nil {
		b = append(append(b, 3, byte(len(host))), host...)
	} else if addr.Is4() {
		b = append(append(b, 1), addr.AsSlice()...)
	} else {
		b = append(append(b, 4), addr.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, uint16(port))
}

// echoOnce connects, sends a byte and waits for it to come back.
func (c Config) echoOnce(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	conn, err := c.dial(ctx, PortEcho)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	b := []byte{'x'}
	if _, err := conn.Write(b); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}
