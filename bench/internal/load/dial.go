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
	err = socksConnect(conn, c.Target, port)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return conn, nil
}

// socksConnect asks for host, an address or a name:
//
//	05 01 00 ─►            version, one method: none
//	          ◄─ 05 00
//	05 01 00 type host port ─►
//	          ◄─ 05 code 00 type addr port
func socksConnect(conn io.ReadWriter, host string, port int) error {
	var b [32]byte
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b[:2]); err != nil {
		return err
	}
	if b[0] != 5 || b[1] != 0 {
		return fmt.Errorf("not a SOCKS5 server without authentication: %x", b[:2])
	}
	req := []byte{5, 1, 0}
	if addr, err := netip.ParseAddr(host); err != nil {
		req = append(append(req, 3, byte(len(host))), host...)
	} else if addr.Is4() {
		req = append(append(req, 1), addr.AsSlice()...)
	} else {
		req = append(append(req, 4), addr.AsSlice()...)
	}
	req = binary.BigEndian.AppendUint16(req, uint16(port))
	if _, err := conn.Write(req); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b[:4]); err != nil {
		return err
	}
	if b[1] != 0 {
		return fmt.Errorf("SOCKS5 code %d", b[1])
	}
	rest := 0
	switch b[3] {
	case 1:
		rest = 4 + 2
	case 4:
		rest = 16 + 2
	case 3:
		if _, err := io.ReadFull(conn, b[:1]); err != nil {
			return err
		}
		rest = int(b[0]) + 2
	default:
		return fmt.Errorf("SOCKS5 address type %d", b[3])
	}
	_, err := io.CopyN(io.Discard, conn, int64(rest))
	return err
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
