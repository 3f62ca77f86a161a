// Package chrome is what a client's connection looks like from outside: today's Chrome, the browser that most people use, or
// today's Firefox. It makes the TLS client with the browser's ClientHello, and the bytes that the browser writes first.
//
//	record            content                                        Chrome's size, without the record's header
//	handshake         ClientHello, two segments                      about 1.9 KB
//	CCS, handshake    Finished                                       1, 53
//	data              preface, SETTINGS, WINDOW_UPDATE               87
//	data              HEADERS of a navigation                        about 480, with a long cookie about 850
//	data              SETTINGS ACK, when the server's SETTINGS came  26
//
// The request says that it comes from Google's Chrome, or Firefox, on Windows, whatever the system is: most people's system
// is that, and inside the encryption only the gateway reads it, while its size is seen by all.
//
// What is imitated is data, chrome.json and firefox.json, measured from real browsers; tests in tests/ measure those that
// are installed and fail when they differ. See docs/chrome.md. Data that the network's operator has signed may take its
// place while the program runs: signed.go.
package chrome

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// A Browser is one version of one browser, and what connections look like that are made with it.
type Browser struct {
	profile *Profile
	date    time.Time
}

// Family is what all versions of a browser have in common.
type Family string

// The families there are.
const (
	FamilyChrome  Family = "chrome"
	FamilyFirefox Family = "firefox"
)

var (
	//go:embed chrome.json
	chromeText []byte
	//go:embed firefox.json
	firefoxText []byte

	theChrome  = sync.OnceValue(func() *Browser { return builtIn(chromeText) })
	theFirefox = sync.OnceValue(func() *Browser { return builtIn(firefoxText) })
)

// builtIn reads one of our own profiles. A file that cannot be read is a build that must not be used.
func builtIn(text []byte) *Browser {
	p, err := ParseProfile(text)
	if err != nil {
		panic(err)
	}
	return &Browser{p, p.measured()}
}

// BuiltIn is the browser of a family that this program was built with; of an unknown family it is Chrome.
func BuiltIn(f Family) *Browser {
	if f == FamilyFirefox {
		return theFirefox()
	}
	return theChrome()
}

// Family is the browser's.
func (b *Browser) Family() Family { return b.profile.Family }

// Date is when it was measured or, if it was signed, when that was.
func (b *Browser) Date() time.Time { return b.date }

// String is what program was measured.
func (b *Browser) String() string { return b.profile.Browser }

// Client is Chrome's.
func Client(conn net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	return theChrome().Client(conn, cfg)
}

// Client makes the TLS client end of one connection, with the browser's ClientHello. Of cfg it takes ServerName, which is
// not sent when it is empty or an address, ClientSessionCache, and how the server is verified; the rest it sets, and cfg
// stays as it is. A server without TLS 1.3 fails the handshake; whether it took X25519MLKEM768, Group tells.
//
// A session that the cache has is resumed, as the browser does it: with one pre_shared_key behind all other extensions, an
// exchange of keys all the same, and no early data. Get is called once for a connection, with an empty key, and what it
// returns is on the wire thereafter: the cache must not return it again. Without a cache, or a session in it, the hello is
// that of a first visit.
func (b *Browser) Client(conn net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	own := cfg.Clone()
	own.SessionTicketsDisabled = own.ClientSessionCache == nil
	var one oneSession
	if own.ClientSessionCache != nil {
		one.ClientSessionCache = own.ClientSessionCache
		one.session, _ = one.ClientSessionCache.Get("")
		own.ClientSessionCache = one
		own.OmitEmptyPsk = true           // where the engine finds the session too old, after all
		own.InsecureSkipTimeVerify = true // of the certificate: the caller verifies
		own.PreferSkipResumptionOnNilExtension = true
	}
	spec, err := b.profile.TLS.spec(one.session != nil)
	if err != nil {
		return nil, fmt.Errorf("making a hello: %w", err)
	}
	own.DynamicRecordSizingDisabled = true
	own.NextProtos = nil // the hello's own
	u := utls.UClient(conn, own, utls.HelloCustom)
	if err := u.ApplyPreset(spec); err != nil {
		return nil, fmt.Errorf("making a hello: %w", err)
	}
	if b.profile.TLS.OneX25519 {
		if err := oneX25519(u); err != nil {
			return nil, fmt.Errorf("making a hello: %w", err)
		}
	}
	own.MinVersion = utls.VersionTLS13 // the hello offers 1.2, as browsers do; who takes it is not our gateway
	return u, nil
}

// oneSession is a cache that has one session for one connection, and keeps others elsewhere.
type oneSession struct {
	utls.ClientSessionCache
	session *utls.ClientSessionState
}

// Get implements utls.ClientSessionCache.
func (o oneSession) Get(string) (*utls.ClientSessionState, bool) { return o.session, o.session != nil }

// Reason says what a handshake of Client's failed of, where that can be said without an address.
func Reason(err error) error {
	var notTLS utls.RecordHeaderError
	var alert utls.AlertError
	switch {
	case errors.As(err, &notTLS):
		return transport.ErrNotTLS
	case errors.As(err, &alert):
		return transport.Reason(alert.Error())
	}
	return err
}

// Group is the group whose keys were exchanged, after the handshake.
func Group(u *utls.UConn) utls.CurveID { return u.HandshakeState.ServerHello.ServerShare.Group }

// SettingsAckLen is the length of the frame that browsers send in a record of its own when the server's SETTINGS arrive.
const SettingsAckLen = 9

// Opening is Chrome's.
func Opening(authority, cookie string) [][]byte { return theChrome().Opening(authority, cookie) }

// Opening returns what the browser writes first on a new HTTP/2 connection for a navigation to https://authority/ with the
// given value of the Cookie header (empty: none): each slice is one TLS record of the browser's.
func (b *Browser) Opening(authority, cookie string) [][]byte {
	h := &b.profile.HTTP2
	return [][]byte{h.preface(), append(h.navigation(authority, cookie), h.trailer()...)}
}

// TrailerLen is how much follows the request in the opening's last record, and is no part of it.
func (b *Browser) TrailerLen() int { return len(b.profile.HTTP2.trailer()) }

// trailer is what follows HEADERS in its record.
func (h *HTTP2) trailer() []byte {
	if h.StreamWindow == 0 {
		return nil
	}
	var b bytes.Buffer
	must(http2.NewFramer(&b, nil).WriteWindowUpdate(h.Stream, h.StreamWindow))
	return b.Bytes()
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

// fields are those of a navigation, in order.
func (h *HTTP2) fields(authority, cookie string) (all []hpack.HeaderField) {
	put := func(name, value string) { all = append(all, hpack.HeaderField{Name: name, Value: value}) }
	for _, line := range h.Headers {
		name, value, _ := field(line)
		switch name {
		case ":authority":
			put(name, authority)
		case "cookie":
			if cookie == "" {
				continue
			}
			for crumb := range strings.SplitSeq(cookie, "; ") { // RFC 9113, section 8.2.3
				put(name, crumb)
			}
		default:
			put(name, value)
		}
	}
	return all
}

// navigation is the HEADERS frame.
func (h *HTTP2) navigation(authority, cookie string) []byte {
	var b bytes.Buffer
	must(http2.NewFramer(&b, nil).WriteHeaders(http2.HeadersFrameParam{
		StreamID: h.Stream, BlockFragment: h.HPACK.encode(h.fields(authority, cookie)), EndStream: true, EndHeaders: true,
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
		fmt.Fprintf(&b, "%s: %s\r\n", h[1], theChrome().profile.HTTP2.header(h[0]))
	}
	// Chrome takes br and zstd over TLS alone.
	fmt.Fprintf(&b, "Accept-Encoding: gzip, deflate\r\nAccept-Language: %s\r\n\r\n",
		theChrome().profile.HTTP2.header("accept-language"))
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
