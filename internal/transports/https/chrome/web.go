package chrome

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What Chrome says where it is not a navigation over HTTP/2: WebSockets, HTTP/1.1, and what scripts send.

// ClientHTTP1 is Client for a server that is to be spoken to by HTTP/1.1, as Chrome does for a WebSocket unless it has a
// connection of HTTP/2 on which RFC 8441 is allowed.
func ClientHTTP1(conn net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	u, err := Client(conn, cfg)
	if err != nil {
		return nil, err
	}
	for _, e := range u.Extensions {
		if alpn, ok := e.(*utls.ALPNExtension); ok {
			alpn.AlpnProtocols = []string{"http/1.1"}
		}
	}
	return u, nil
}

// Request returns what Chrome writes for a navigation to https://host/ by HTTP/1.1.
func Request(host string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive\r\n", host)
	for _, line := range theChrome().profile.HTTP2.Headers {
		name, value, _ := field(line)
		if strings.HasPrefix(name, ":") || name == "cookie" || name == "priority" {
			continue
		}
		if !strings.HasPrefix(name, "sec-ch-") { // which Chrome writes small
			name = http.CanonicalHeaderKey(name)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// Upgrade returns what Chrome writes to open wss://host/ (RFC 6455, section 4.1) by HTTP/1.1.
func Upgrade(host, cookie, key string) []byte {
	h := &theChrome().profile.HTTP2
	return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"+
		"User-Agent: %s\r\nUpgrade: websocket\r\nOrigin: https://%s\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: %s\r\n"+
		"Accept-Language: %s\r\nCookie: %s\r\nSec-WebSocket-Key: %s\r\n"+
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
		host, h.header("user-agent"), host, h.header("accept-encoding"), h.header("accept-language"), cookie, key)
}

// Connect returns the frame that Chrome writes on stream 3 to open wss://authority/ by HTTP/2 (RFC 8441).
func Connect(authority, cookie string) []byte {
	h := &theChrome().profile.HTTP2
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	put := func(name, value string) { must(enc.WriteField(hpack.HeaderField{Name: name, Value: value})) }
	put(":method", "CONNECT")
	put(":authority", authority)
	put(":scheme", "https")
	put(":path", "/")
	put(":protocol", "websocket")
	put("pragma", "no-cache")
	put("cache-control", "no-cache")
	put("user-agent", h.header("user-agent"))
	put("origin", "https://"+authority)
	put("sec-websocket-version", "13")
	put("accept-encoding", h.header("accept-encoding"))
	put("accept-language", h.header("accept-language"))
	for crumb := range strings.SplitSeq(cookie, "; ") {
		put("cookie", crumb)
	}
	put("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
	var b bytes.Buffer
	must(http2.NewFramer(&b, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes(), EndHeaders: true}))
	return b.Bytes()
}

// PlainPost returns what Chrome writes when a script of http://host/ sends that many bytes.
func PlainPost(host, cookie string, length int64) []byte {
	h := &theChrome().profile.HTTP2
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive\r\nContent-Length: %d\r\nUser-Agent: %s\r\n"+
		"Content-Type: application/octet-stream\r\nAccept: */*\r\nOrigin: http://%s\r\nReferer: http://%s/\r\n"+
		"Accept-Encoding: gzip, deflate\r\nAccept-Language: %s\r\nCookie: %s\r\n\r\n",
		host, length, h.header("user-agent"), host, host, h.header("accept-language"), cookie)
}

// Window returns how much Chrome lets a server send ahead, on a stream and on the connection.
func Window() (stream, connection uint32) {
	h := &theChrome().profile.HTTP2
	const initial = 65535 // RFC 9113, section 6.9.2
	stream = initial
	if i := slices.IndexFunc(h.Settings, func(s Setting) bool { return s.ID == uint16(http2.SettingInitialWindowSize) }); i >= 0 {
		stream = h.Settings[i].Value
	}
	return stream, initial + h.WindowUpdate
}
