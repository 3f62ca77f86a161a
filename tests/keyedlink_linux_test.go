package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	frames "github.com/godwit-vpn/godwit/internal/wire"
)

// dial makes a TLS connection to the gateway from one of the client's addresses, and notes its keys.
func (c *crowd) dial(source netip.Addr, proto string) (*tls.Conn, error) {
	to := net.JoinHostPort(gatewayAddr, gatewayPort)
	if source.Is6() {
		to = net.JoinHostPort(gatewayAddr6, gatewayPort)
	}
	var tcp net.Conn
	err := c.w.client.do(func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
		tcp, err = d.Dial("tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.needles.SockAddr("client's address", tcp.LocalAddr().(*net.TCPAddr).AddrPort())
	var secrets bytes.Buffer
	conn := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}, KeyLogWriter: &secrets,
		ServerName: "site.test"})
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	c.needles.KeyLog(secrets.String(), conn.ConnectionState().CipherSuite)
	return conn, nil
}

// knock opens a link over Go's own TLS, whose keys it will tell.
func (c *crowd) knock(source netip.Addr, k link.Knock) (*keyedLink, error) {
	conn, err := c.dial(source, "h2")
	if err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	l := &keyedLink{Conn: conn, state: state, key: transport.KeyHash(state.PeerCertificates[0])}
	if l.knock, err = k.Knock(l); err != nil {
		return nil, err
	}
	for _, label := range []string{"EXPORTER-godwit-door", "EXPORTER-godwit-proof"} {
		ekm, err := l.Export(label, nil, 32)
		if err != nil {
			return nil, err
		}
		c.needles.Bytes("what a link exports?", ekm)
	}
	c.needles.Bytes("door's MAC", l.knock[8:link.DoorLen])
	c.needles.Bytes("proof", signatureOf(l.knock))
	name, length := decoy.CookieFor(l.key)
	value := make([]byte, base64.RawURLEncoding.DecodedLen(length))
	copy(value[copy(value, l.knock):], randomBytes(len(value)))
	cookie := base64.RawURLEncoding.EncodeToString(value)
	c.needles.Text("knock, as a cookie?", cookie[20:100])
	for _, record := range chrome.Opening("site.test", name+"="+cookie) {
		if _, err := conn.Write(record); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// signatureOf finds the signature in a knock: HELLO ends with it and an empty certificate.
func signatureOf(knock []byte) []byte {
	r := bytes.NewReader(knock[link.DoorLen:])
	if _, body, err := frames.ReadFrame(r, frames.MaxHello); err == nil {
		if h, err := frames.ParseHello(body); err == nil {
			return bytes.Clone(h.Signature[:])
		}
	}
	panic("a knock without a HELLO")
}

// keyedLink is a link's connection whose keys are known.
type keyedLink struct {
	*tls.Conn
	state  tls.ConnectionState
	key    [32]byte
	knock  []byte
	passed bool
}

func (l *keyedLink) Export(label string, context []byte, n int) ([]byte, error) {
	return l.state.ExportKeyingMaterial(label, context, n)
}
func (l *keyedLink) ServerKey() [32]byte { return l.key }
func (l *keyedLink) Knock() []byte       { return l.knock }

// Read skips what the website's server says, up to the marker.
func (l *keyedLink) Read(b []byte) (int, error) {
	for !l.passed {
		var head [9]byte
		if _, err := io.ReadFull(l.Conn, head[:]); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, l.Conn, int64(binary.BigEndian.Uint32(head[:])>>8)); err != nil {
			return 0, err
		}
		l.passed = http2.FrameType(head[3]) == http2.FrameHeaders
	}
	return l.Conn.Read(b)
}
