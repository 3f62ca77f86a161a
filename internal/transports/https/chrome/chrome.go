// Package chrome is what a client's connection looks like from outside: the browser that most people use, today's
// Chrome. It makes the TLS client with Chrome's ClientHello, and the bytes that Chrome writes first.
//
//	record            content                                        size on the wire, without the record's header
//	handshake         ClientHello, two segments                      about 1.9 KB
//	CCS, handshake    Finished                                       1, 53
//	data              preface, SETTINGS, WINDOW_UPDATE               87
//	data              HEADERS of a navigation                        about 480, with a long cookie about 850
//	data              SETTINGS ACK, when the server's SETTINGS came  26
//
// The request says that it comes from Google's Chrome on Windows, whatever the system is: most people's browser is that,
// and inside the encryption only the gateway reads it, while its size is seen by all.
//
// What is imitated is data, profile.json, measured from a real browser; a test in tests/ measures the one that is
// installed and fails when they differ. See docs/chrome.md.
package chrome

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"sync"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

//go:embed profile.json
var profileText []byte

// profile is the browser that every client is. A file that cannot be read is a build that must not be used.
var profile = sync.OnceValue(func() *Profile {
	p, err := ParseProfile(profileText)
	if err != nil {
		panic(err)
	}
	return p
})

// Client makes the TLS client end of one connection, with Chrome's ClientHello. Of cfg it takes ServerName, which is not
// sent when it is empty or an address, and how the server is verified; the rest it sets, and cfg stays as it is. A server
// without TLS 1.3 fails the handshake; whether it took X25519MLKEM768, Group tells.
//
// Sessions are not resumed: what a browser sends on a first visit has no trace of one.
func Client(conn net.Conn, cfg *utls.Config) (*utls.UConn, error) { return profile().client(conn, cfg) }

func (p *Profile) client(conn net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	spec, err := p.TLS.spec()
	if err != nil {
		return nil, fmt.Errorf("making a hello: %w", err)
	}
	own := cfg.Clone()
	own.ClientSessionCache = nil
	own.SessionTicketsDisabled = true
	own.DynamicRecordSizingDisabled = true
	own.NextProtos = nil // the hello's own
	u := utls.UClient(conn, own, utls.HelloCustom)
	if err := u.ApplyPreset(spec); err != nil {
		return nil, fmt.Errorf("making a hello: %w", err)
	}
	own.MinVersion = utls.VersionTLS13 // the hello offers 1.2, as Chrome does; who takes it is not our gateway
	return u, nil
}

// Group is the group whose keys were exchanged, after the handshake.
func Group(u *utls.UConn) utls.CurveID { return u.HandshakeState.ServerHello.ServerShare.Group }

// SettingsAckLen is the length of the frame that Chrome sends in a record of its own when the server's SETTINGS arrive.
const SettingsAckLen = 9

// Opening returns what Chrome writes first on a new HTTP/2 connection for a navigation to https://authority/ with the
// given value of the Cookie header (empty: none): each slice is one TLS record of Chrome's.
func Opening(authority, cookie string) [][]byte {
	p := &profile().HTTP2
	return [][]byte{p.preface(), p.navigation(authority, cookie)}
}

// preface is the connection preface, SETTINGS and WINDOW_UPDATE.
func (h *HTTP2) preface() []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&b, nil)
	var settings []http2.Setting
	for _, s := range h.Settings {
		settings = append(settings, http2.Setting{ID: http2.SettingID(s.ID), Val: s.Value})
	}
	must(framer.WriteSettings(settings...))
	must(framer.WriteWindowUpdate(0, h.WindowUpdate))
	return b.Bytes()
}

// navigation is the HEADERS frame. Chrome's HPACK is x/net's to the byte, as measured: Huffman where it is shorter, and
// every field that is not in the static table indexed.
func (h *HTTP2) navigation(authority, cookie string) []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range h.fields(authority, cookie) {
		must(enc.WriteField(f))
	}
	var b bytes.Buffer
	must(http2.NewFramer(&b, nil).WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
		Priority: http2.PriorityParam{
			StreamDep: h.Priority.DependsOn, Exclusive: h.Priority.Exclusive, Weight: uint8(h.Priority.Weight - 1),
		},
	}))
	return b.Bytes()
}

// PlainRequest returns what Chrome writes on a connection without TLS, for a navigation to http://host/.
func PlainRequest(host string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive\r\n", host)
	for _, h := range [][2]string{{"upgrade-insecure-requests", "Upgrade-Insecure-Requests"},
		{"user-agent", "User-Agent"}, {"accept", "Accept"}} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[1], profile().HTTP2.header(h[0]))
	}
	// Chrome takes br and zstd over TLS alone.
	fmt.Fprintf(&b, "Accept-Encoding: gzip, deflate\r\nAccept-Language: %s\r\n\r\n",
		profile().HTTP2.header("accept-language"))
	return b.Bytes()
}

// header is the value of one of the navigation's fields.
func (h *HTTP2) header(name string) string {
	for _, line := range h.Headers {
		if n, value, _ := field(line); n == name {
			return value
		}
	}
	return ""
}

// must is for writes to memory of what check has let pass.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
