package prober

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// TLS as Go's own stack speaks it, with several names; then the certificate, what the server says unasked, its page.

// look is one handshake and what is said inside.
type look struct {
	protocols []string
	recorded  bool // protocols are those of the recorded hello, if there is one
	max       uint16
	name      func(t *Target) string
	say       []byte
}

func recordedName(t *Target) string {
	name, _ := offered(t.Recorded)
	return name
}

var (
	h1 = []string{"http/1.1"}
	h2 = []string{"h2", "http/1.1"}
)

const (
	asUser    = "TLS, the recorded name"
	wrongName = "www.wrong.example"
	getPage   = "GET / HTTP/1.1\r\nHost: www.site.example\r\nConnection: close\r\n\r\n"
)

var tlsProbes = []Probe{
	tlsProbe("TLS, no name", look{protocols: h2, name: func(*Target) string { return "" }}),
	tlsProbe("TLS, another name", look{protocols: h2, name: func(*Target) string { return wrongName }}),
	tlsProbe("TLS, the address as name", look{protocols: h2, name: func(t *Target) string { return t.Addr.Addr().String() }}),
	tlsProbe(asUser, look{protocols: h2, recorded: true, name: recordedName}),
	tlsProbe("TLS, no ALPN", look{name: recordedName}),
	tlsProbe("TLS, unknown ALPN", look{name: recordedName, protocols: []string{"probe"}}),
	tlsProbe("TLS 1.2", look{name: recordedName, protocols: h1, max: tls.VersionTLS12}),
	tlsProbe("TLS, GET /", look{name: recordedName, protocols: h1, say: []byte(getPage)}),
	tlsProbe("TLS, a path that is not there", look{name: recordedName, protocols: h1,
		say: []byte("GET /probe-8d1f HTTP/1.1\r\nHost: www.site.example\r\nConnection: close\r\n\r\n")}),
	tlsProbe("TLS, a bad request", look{name: recordedName, protocols: h1, say: []byte("\x01\x02 nonsense\r\n\r\n")}),
	tlsProbe("TLS, HTTP/2 GET /", look{name: recordedName, protocols: []string{"h2"}, say: getHTTP2}),
	tlsProbe("TLS, HTTP/2 nonsense", look{name: recordedName, protocols: []string{"h2"},
		say: append([]byte(http2.ClientPreface), bytes.Repeat([]byte{0x7f}, 90)...)}),
}

func tlsProbe(name string, l look) Probe {
	k := Kind{Name: name, Family: "tls", Network: "tcp", Knocks: true}
	return simple{k, func(ctx context.Context, t *Target) Answer {
		c, bad := t.connect(ctx)
		if c == nil {
			return bad
		}
		defer c.Close()
		seen := &watched{Conn: c}
		config := &tls.Config{InsecureSkipVerify: true, ServerName: l.name(t), NextProtos: l.protocols, MaxVersion: l.max}
		if l.recorded && len(t.Recorded) > 0 {
			_, config.NextProtos = offered(t.Recorded)
		}
		inner := tls.Client(seen, config)
		c.until(time.Now().Add(t.Patience))
		if err := inner.HandshakeContext(ctx); err != nil {
			return t.noHandshake(seen, err)
		}
		state := inner.ConnectionState()
		flight := seen.len()
		if l.say != nil {
			inner.Write(l.say)
		}
		got, end := t.read(&conn{inner, ctx, func() bool { return true }})
		what := fmt.Sprintf("%s %s %s %q, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite),
			state.CurveID, state.NegotiatedProtocol, certificate(state.PeerCertificates, l.name(t)))
		a := Answer{Bytes: seen.len(), End: end}
		switch {
		case l.say == nil:
			all, _ := split(seen.from(flight))
			for _, r := range all {
				a.Unasked = append(a.Unasked, len(r.body))
			}
		case state.NegotiatedProtocol == "h2":
			what += ": " + frames(got)
		default:
			what += ": " + describe(got)
		}
		a.What = what
		return a
	}}
}

// noHandshake says why there is none.
func (t *Target) noHandshake(seen *watched, err error) Answer {
	a := Answer{What: describe(seen.from(0)), Bytes: seen.len(), End: ending(err)}
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		a.What = "no handshake: " + alert.Err.Error()
		a.End = FIN
	}
	return a
}

// certificate describes a chain's shape: what two servers with certificates from one place share.
func certificate(chain []*x509.Certificate, name string) string {
	if len(chain) == 0 {
		return "no certificate"
	}
	leaf := chain[0]
	key := leaf.PublicKeyAlgorithm.String()
	switch k := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		key += " " + k.Curve.Params().Name
	case *rsa.PublicKey:
		key += fmt.Sprint(" ", k.N.BitLen())
	case ed25519.PublicKey:
	}
	issued := "issued"
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		issued = "self-signed"
	}
	fits := "no"
	if leaf.VerifyHostname(name) == nil {
		fits = "yes"
	}
	days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24
	return fmt.Sprintf("certificate %s %s %s %.0f d, chain %d, names %d+%d, fits %s", key, leaf.SignatureAlgorithm, issued, days,
		len(chain), len(leaf.DNSNames), len(leaf.IPAddresses), fits)
}

// watched keeps what comes in.
type watched struct {
	net.Conn
	mu sync.Mutex
	in []byte
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in = append(w.in, b[:n]...)
	return n, err
}

func (w *watched) len() int { return len(w.from(0)) }

func (w *watched) from(at int) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.in[at:])
}

// getHTTP2 asks for the page in HTTP/2, and says good-bye.
var getHTTP2 = func() []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	f.WriteSettings()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true,
		// HPACK's static table: GET, https, /; then :authority, literal.
		BlockFragment: append([]byte{0x82, 0x87, 0x84, 0x01, 16}, "www.site.example"...)})
	return b.Bytes()
}()

// frames names HTTP/2 frames in the order of streams: those of different streams race each other.
func frames(b []byte) string {
	f := http2.NewFramer(io.Discard, bytes.NewReader(b))
	var connection, stream string
	var body []byte
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			break
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if connection += " SETTINGS"; fr.IsAck() {
				connection += " ack"
			}
			fr.ForeachSetting(func(s http2.Setting) error {
				connection += fmt.Sprintf(" %d=%d", s.ID, s.Val)
				return nil
			})
		case *http2.DataFrame:
			body = append(body, fr.Data()...)
		case *http2.HeadersFrame:
			stream += " HEADERS"
		case *http2.GoAwayFrame:
			connection += fmt.Sprintf(" GOAWAY %s", fr.ErrCode)
		case *http2.RSTStreamFrame:
			stream += fmt.Sprintf(" RST_STREAM %s", fr.ErrCode)
		default:
			connection += " " + fr.Header().Type.String()
		}
	}
	if strings.Contains(connection, " GOAWAY") {
		// Whether a server's first WINDOW_UPDATE leaves before it has read what it gives up on is its scheduler's doing.
		connection = strings.ReplaceAll(connection, " WINDOW_UPDATE", "")
	}
	return fmt.Sprintf("HTTP/2%s;%s %s", connection, stream, digest(body))
}

// hello is the ClientHello at the beginning of what a user sent, with its records; nil if there is none.
func hello(recorded [][]byte) []byte {
	b := bytes.Join(recorded, nil)
	all, _ := split(b)
	var n, want int
	for i, r := range all {
		if r.kind != 22 {
			return nil
		}
		if i == 0 {
			if len(r.body) < 38 || r.body[0] != 1 {
				return nil
			}
			want = 4 + int(r.body[1])<<16 + int(r.body[2])<<8 + int(r.body[3])
		}
		n += 5 + len(r.body)
		if want -= len(r.body); want <= 0 {
			return b[:n]
		}
	}
	return nil
}

// offered is the name and the protocols of a recorded ClientHello; empty if there is none. Go's server reads it for us.
func offered(recorded [][]byte) (name string, protocols []string) {
	c := &played{r: bytes.NewReader(hello(recorded))}
	tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, protocols = h.ServerName, h.SupportedProtos
		return nil, errors.New("that was all")
	}}).Handshake()
	return name, protocols
}

// played is a connection on which a recording arrives.
type played struct {
	net.Conn
	r io.Reader
}

func (p *played) Read(b []byte) (int, error)  { return p.r.Read(b) }
func (p *played) Write(b []byte) (int, error) { return len(b), nil }
func (p *played) Close() error                { return nil }
