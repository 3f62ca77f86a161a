package https_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// These tests probe the gateway's website as a censor would (B2, B3 and B11 of what has been measured of them), beside two
// servers that are nothing but net/http and x/net/http2 with the same files and certificate. What Go's server answers is
// not always the same: its frames race each other. So outcomes are counted over interleaved rounds, and the gateway must
// differ from the two no more than they may differ from each other.

var (
	probeRounds = flag.Int("probes", 8, "how often each probe is tried on each server")
	probeEvery  = flag.Int("lengths", 37, "try every n-th length of random bytes from 1 to 8192")
)

// A probe talks to a server and says what it saw.
type probe struct {
	name string
	slow bool // waits for the server's patience to end
	run  func(p *prober) string
}

// prober is one try of a probe.
type prober struct {
	w     transporttest.World // the server
	grown transporttest.World // the gateway: where knocks are good
	hello []byte              // a recorded ClientHello, its record included
	tcp   *net.TCPConn
	seen  recorder
}

// patience is longer than any of the servers' timeouts that the probes meet.
const patience = 14 * time.Second

// recorder keeps what came from the server. Once quiet is set it calls that when nothing has come for a while.
type recorder struct {
	net.Conn
	in    bytes.Buffer
	quiet func()
}

// aWhile is longer than a server on this machine takes to answer.
const aWhile = 80 * time.Millisecond

func (r *recorder) Read(b []byte) (int, error) {
	var t *time.Timer
	if r.quiet != nil {
		t = time.AfterFunc(aWhile, r.quiet)
	}
	n, err := r.Conn.Read(b)
	r.in.Write(b[:n])
	if t != nil {
		t.Stop()
	}
	return n, err
}

func (p *prober) dial() error {
	c, err := net.Dial("tcp", p.w.Endpoint.Addr)
	if err != nil {
		return err
	}
	p.tcp = c.(*net.TCPConn)
	p.seen = recorder{Conn: c}
	return c.SetDeadline(time.Now().Add(patience))
}

// end reads to the end of the connection and says what came and how it ended, and about when.
func (p *prober) end(began time.Time) string {
	_, err := io.Copy(io.Discard, &p.seen)
	return records(p.seen.in.Bytes()) + " " + ending(err) + " " + about(time.Since(began))
}

func ending(err error) string {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return "FIN"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "RST"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "open"
	}
	return err.Error()
}

// about is a time as coarse as a shared machine allows.
func about(d time.Duration) string {
	switch {
	case d < 700*time.Millisecond:
		return "at once"
	case d < 5*time.Second:
		return "soon"
	case d < 8*time.Second:
		return "at 6 s"
	case d < 12*time.Second:
		return "at 10 s"
	}
	return "late"
}

// records names the TLS records in b, or whatever else it is.
func records(b []byte) string {
	var out []string
	for len(b) > 0 {
		if len(b) < 5 || b[0] < 20 || b[0] > 23 || b[1] != 3 {
			return strings.Join(append(out, fmt.Sprintf("%q", dateless(b))), " ")
		}
		n := int(binary.BigEndian.Uint16(b[3:]))
		if len(b) < 5+n {
			return strings.Join(append(out, "cut"), " ")
		}
		what := fmt.Sprintf("%d:%d", b[0], n)
		if b[0] == 21 && n == 2 {
			what += "=" + hex.EncodeToString(b[5:7])
		}
		if b[0] == 22 { // a certificate's signature has no fixed length
			what = "22"
		}
		out = append(out, what)
		b = b[5+n:]
	}
	return strings.Join(out, " ")
}

func dateless(b []byte) []byte {
	if i := bytes.Index(b, []byte("Date: ")); i >= 0 && len(b) > i+35 {
		b = append(bytes.Clone(b[:i]), b[i+35:]...)
	}
	return b
}

// raw sends bytes as they are and looks, and closes its half when nothing more comes, if it is to.
func raw(half bool, parts ...[]byte) func(*prober) string {
	return func(p *prober) string {
		if err := p.dial(); err != nil {
			return err.Error()
		}
		defer p.tcp.Close()
		began := time.Now()
		for i, b := range parts {
			if i > 0 {
				time.Sleep(3 * time.Millisecond)
			}
			p.tcp.Write(b)
		}
		if half {
			p.seen.quiet = func() { p.tcp.CloseWrite() }
		}
		return p.end(began)
	}
}

// withHello sends the recorded ClientHello, changed.
func withHello(half bool, change func(hello []byte) [][]byte) func(*prober) string {
	return func(p *prober) string { return raw(half, change(bytes.Clone(p.hello))...)(p) }
}

// over completes a TLS handshake, sends what f makes of it, and reads to the end: HTTP/2 frames by name, or text. It
// closes its half as raw does.
func over(config *tls.Config, half bool, f func(p *prober, c *tls.Conn) [][]byte) func(*prober) string {
	return func(p *prober) string {
		if err := p.dial(); err != nil {
			return err.Error()
		}
		defer p.tcp.Close()
		began := time.Now()
		config := config.Clone()
		config.InsecureSkipVerify, config.ServerName = true, p.w.Endpoint.Name
		c := tls.Client(&p.seen, config)
		if err := c.Handshake(); err != nil {
			return "no handshake: " + tlsError(err) + " " + p.end(began)
		}
		for i, b := range f(p, c) {
			if i > 0 {
				time.Sleep(3 * time.Millisecond)
			}
			if len(b) > 0 {
				c.Write(b)
			}
		}
		if half {
			p.seen.quiet = sync.OnceFunc(func() {
				c.CloseWrite()
				p.tcp.CloseWrite()
			})
		}
		var got bytes.Buffer
		_, err := io.Copy(&got, c)
		what := "FIN after close_notify"
		if err != nil {
			what = tlsError(err)
		}
		_, err = io.Copy(io.Discard, &p.seen)
		return c.ConnectionState().NegotiatedProtocol + " " + inside(got.Bytes()) + " " + what + ", " + ending(err) + " " +
			about(time.Since(began))
	}
}

func tlsError(err error) string {
	if e := ending(err); len(e) <= 4 {
		return e
	}
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert) {
		return alert.Error()
	} else if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return err.Error()
}

// inside names HTTP/2 frames, or quotes what is none. Frames that race each other are told apart by being counted, the
// page's own by its length.
func inside(b []byte) string {
	var out []string
	for len(b) > 0 {
		if len(b) < 9 || b[0] != 0 && !bytes.HasPrefix(b, []byte("HTTP/")) {
			return strings.Join(append(out, fmt.Sprintf("+%d bytes", len(b))), " ")
		}
		if b[0] != 0 {
			return strings.Join(append(out, fmt.Sprintf("%q", dateless(b))), " ")
		}
		n := int(binary.BigEndian.Uint32(b) >> 8)
		if len(b) < 9+n {
			return strings.Join(append(out, "cut"), " ")
		}
		what := fmt.Sprintf("%v/%d:%d", http2.FrameType(b[3]), b[4], n)
		if http2.FrameType(b[3]) == http2.FrameGoAway || http2.FrameType(b[3]) == http2.FrameRSTStream {
			what += "=" + hex.EncodeToString(b[9:9+min(n, 8)])
		}
		out = append(out, what)
		b = b[9+n:]
	}
	return strings.Join(out, " ")
}

// frame is one HTTP/2 frame.
func frame(kind http2.FrameType, flags http2.Flags, stream uint32, body []byte) []byte {
	b := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), byte(kind), byte(flags)}
	return append(binary.BigEndian.AppendUint32(b, stream), body...)
}

func headers(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

func get2(stream uint32, more ...string) []byte {
	return frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, stream,
		headers(append([]string{":method", "GET", ":scheme", "https", ":authority", "site.example", ":path", "/"}, more...)...))
}

var (
	h2Only   = &tls.Config{NextProtos: []string{"h2"}}
	h1Only   = &tls.Config{NextProtos: []string{"http/1.1"}}
	preface  = []byte(http2.ClientPreface)
	settings = frame(http2.FrameSettings, 0, 0, nil)
	ack      = frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	goAway   = frame(http2.FrameGoAway, 0, 0, make([]byte, 8))
)

// say sends fixed bytes inside of TLS.
func say(parts ...[]byte) func(*prober, *tls.Conn) [][]byte {
	return func(*prober, *tls.Conn) [][]byte { return parts }
}

// begun sends fixed frames behind a good beginning, and then GOAWAY, so that the server ends it.
func begun(frames ...[]byte) func(*prober, *tls.Conn) [][]byte {
	return say(slices.Concat(append([][]byte{preface, settings}, frames...)...), goAway)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// knocking sends a request with a knock.
func knocking(knock func(p *prober, c *tls.Conn) []byte) func(*prober, *tls.Conn) [][]byte {
	return func(p *prober, c *tls.Conn) [][]byte {
		return [][]byte{slices.Concat(preface, settings, get2(1, "cookie", "session="+text(knock(p, c)))), goAway}
	}
}

func own(p *prober, c *tls.Conn) []byte {
	state := c.ConnectionState()
	b, _ := transporttest.Key{}.Knock(exporter(state.ExportKeyingMaterial))
	return pad(p.w, b)
}

// elsewhere is a knock that is good on another connection, to the gateway, at this moment.
func elsewhere(p *prober, _ *tls.Conn) []byte {
	c, err := tls.Dial("tcp", p.grown.Endpoint.Addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return pad(p.w, nil)
	}
	defer c.Close()
	return own(p, c)
}

// cutAt changes one byte of the hello.
func cutAt(at int, with byte) func([]byte) [][]byte {
	return func(h []byte) [][]byte { h[at] = with; return [][]byte{h} }
}

// rerecord puts a handshake message into records of n bytes.
func rerecord(h []byte, n int) []byte {
	var out []byte
	for body := h[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(out, 22, 3, 1, byte(k>>8), byte(k))
		out, body = append(out, body[:k]...), body[k:]
	}
	return out
}

var probes = []probe{
	// Below TLS.
	{"nothing", true, raw(false)},
	{"nothing, half closed", false, raw(true)},
	{"one byte", true, raw(false, []byte{0x16})},
	{"221 random bytes", false, func(p *prober) string { return raw(true, random(221))(p) }},
	{"50 random bytes", false, func(p *prober) string { return raw(true, random(50))(p) }},
	{"2,000 random bytes, left open", false, func(p *prober) string { return raw(false, random(2000))(p) }},
	{"20,000 zeros", false, raw(true, make([]byte, 20_000))},
	{"HTTP/1.1 without TLS", false, raw(false, []byte("GET / HTTP/1.1\r\nHost: site.example\r\n\r\n"))},
	{"HTTP/2 without TLS", false, raw(false, slices.Concat(preface, settings))},
	{"POST without TLS", false, raw(true, []byte("POST / HTTP/1.0\r\n\r\n"))},
	{"SSH", false, raw(false, []byte("SSH-2.0-OpenSSH_9.2\r\n"))},
	{"SOCKS5", true, raw(false, []byte{5, 1, 0})},
	{"OpenVPN's reset", false, raw(false, append([]byte{0, 14, 0x38}, random(13)...))},
	{"OpenVPN's reset, a byte short", false, raw(true, append([]byte{0, 14, 0x38}, random(12)...))},
	{"SMTP", false, raw(true, []byte("EHLO probe.example\r\n"))},
	{"an S7 request", false, raw(true, []byte{3, 0, 0, 22, 17, 0xe0, 0, 0, 0, 1, 0, 0xc1, 2, 1, 0, 0xc2, 2, 1, 2, 0xc0, 1, 9})},

	// Hellos.
	{"a hello, recorded", false, withHello(true, func(h []byte) [][]byte { return [][]byte{h} })},
	{"a hello, recorded, left open", true, withHello(false, func(h []byte) [][]byte { return [][]byte{h} })},
	{"a hello and random bytes", false, withHello(false, func(h []byte) [][]byte { return [][]byte{h, random(300)} })},
	{"a hello and finished nonsense", false, withHello(false, func(h []byte) [][]byte {
		return [][]byte{append(h, append([]byte{20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 53}, random(53)...)...)}
	})},
	{"a hello twice", false, withHello(false, func(h []byte) [][]byte { return [][]byte{append(h, h...)} })},
	{"33 CCS behind a hello", false, withHello(false, func(h []byte) [][]byte {
		return [][]byte{append(h, bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 33)...)}
	})},
	{"16 CCS behind a hello", false, withHello(true, func(h []byte) [][]byte {
		return [][]byte{append(h, bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 16)...)}
	})},
	{"17 CCS behind a hello", false, withHello(true, func(h []byte) [][]byte {
		return [][]byte{append(h, bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 17)...)}
	})},
	{"half a hello", true, withHello(false, func(h []byte) [][]byte { return [][]byte{h[:len(h)/2]} })},
	{"half a hello, half closed", false, withHello(true, func(h []byte) [][]byte { return [][]byte{h[:len(h)/2]} })},
	{"a hello without its last byte", false, withHello(true, func(h []byte) [][]byte { return [][]byte{h[:len(h)-1]} })},
	{"a hello in two packets", false, withHello(true, func(h []byte) [][]byte { return [][]byte{h[:100], h[100:]} })},
	{"a hello in records of 20 bytes", false, withHello(true, func(h []byte) [][]byte { return [][]byte{rerecord(h, 20)} })},
	{"a hello in records of one byte", false, withHello(true, func(h []byte) [][]byte { return [][]byte{rerecord(h, 1)} })},
	{"a record of version 0x0200", false, withHello(true, cutAt(1, 2))},
	{"a record of version 0x0304", false, withHello(true, cutAt(2, 4))},
	{"a record of 65,535 bytes", false, withHello(true, func(h []byte) [][]byte { h[3], h[4] = 255, 255; return [][]byte{h} })},
	{"an empty record first", false, withHello(true, func(h []byte) [][]byte { return [][]byte{append([]byte{22, 3, 1, 0, 0}, h...)} })},
	{"an alert first", false, withHello(true, func(h []byte) [][]byte { return [][]byte{append([]byte{21, 3, 1, 0, 2, 2, 40}, h...)} })},
	{"a ServerHello", false, withHello(true, cutAt(5, 2))},
	{"another legacy version", false, withHello(true, cutAt(10, 0))},
	{"a broken session id length", false, withHello(true, cutAt(43, 0xff))},
	{"no cipher suites in common", false, over(&tls.Config{MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, true, say())},
	{"TLS 1.1", false, over(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, true, say())},
	{"TLS 1.2, HTTP/2", false, over(&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}, true,
		say(slices.Concat(preface, settings, get2(1))))},
	{"no X25519MLKEM768", false, over(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"h2"}}, true,
		say(slices.Concat(preface, settings, get2(1))))},
	{"a hello that must be retried", false, over(&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP521}}, true, say())},
	{"another protocol", false, over(&tls.Config{NextProtos: []string{"smtp"}}, true, say())},
	{"no ALPN, HTTP/1.1", false, over(&tls.Config{}, false, say([]byte("GET / HTTP/1.0\r\n\r\n")))},
	{"no ALPN, HTTP/2's preface", false, over(&tls.Config{}, false, say(preface))},
	{"another name", false, func(p *prober) string {
		p.w.Endpoint.Name = "elsewhere.example"
		return over(h2Only, true, say(slices.Concat(preface, settings, get2(1))))(p)
	}},
	{"no name", false, func(p *prober) string {
		p.w.Endpoint.Name = ""
		return over(h1Only, false, say([]byte("GET / HTTP/1.0\r\n\r\n")))(p)
	}},

	// HTTP/1.1.
	{"HTTP/1.1, the page", false, over(h1Only, false, say([]byte("GET / HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n")))},
	{"HTTP/1.1, no host", false, over(h1Only, false, say([]byte("GET / HTTP/1.1\r\n\r\n")))},
	{"HTTP/1.1, garbage", false, over(h1Only, false, say([]byte("\x00\x01\x02 nonsense\r\n\r\n")))},
	{"HTTP/1.1, PROXY's header", false, over(h1Only, false, say([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")))},
	{"HTTP/1.1, CONNECT", false, over(h1Only, true, say([]byte("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n")))},
	{"HTTP/1.1, Upgrade: websocket", false, over(h1Only, true, say([]byte("GET / HTTP/1.1\r\nHost: site.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")))},
	{"HTTP/1.1, a long line", false, over(h1Only, true, say([]byte("GET /"+strings.Repeat("a", 5000)+" HTTP/1.1\r\nHost: x\r\n\r\n")))},
	{"HTTP/1.1, half a request", true, over(h1Only, false, say([]byte("GET / HTTP/1.1\r\nHost: si")))},
	{"HTTP/1.1, half closed", false, over(h1Only, true, say([]byte("GET / HTTP/1.1\r\nHost: site.example\r\n\r\n")))},
	{"HTTP/1.1, two lengths", false, over(h1Only, false, say([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na")))},
	{"HTTP/2's preface over HTTP/1.1", false, over(h1Only, false, say(slices.Concat(preface, settings)))},

	// HTTP/2.
	{"HTTP/2, the page", false, over(h2Only, true, begun(get2(1)))},
	{"HTTP/2, the page, in single bytes", false, over(h2Only, true, func(*prober, *tls.Conn) (all [][]byte) {
		for _, b := range slices.Concat(preface, settings, get2(1), goAway) {
			all = append(all, []byte{b})
		}
		return all[:60]
	})},
	{"HTTP/2, silence", true, over(h2Only, false, say())},
	{"HTTP/2, half closed", false, over(h2Only, true, say())},
	{"HTTP/2, half a preface", true, over(h2Only, false, say(preface[:12]))},
	{"HTTP/2, another preface", false, over(h2Only, false, say(append(bytes.Clone(preface[:20]), "XXXX"...)))},
	{"HTTP/2, HTTP/1.1 instead", false, over(h2Only, false, say([]byte("GET / HTTP/1.1\r\nHost: site.example\r\n\r\n")))},
	{"HTTP/2, a preface and no SETTINGS", true, over(h2Only, false, say(preface))},
	{"HTTP/2, random bytes behind the preface", false, over(h2Only, true, func(*prober, *tls.Conn) [][]byte {
		return [][]byte{preface, append([]byte{0x7f}, random(99)...)}
	})},
	{"HTTP/2, random bytes behind SETTINGS", false, over(h2Only, true, func(*prober, *tls.Conn) [][]byte {
		return [][]byte{slices.Concat(preface, settings), append([]byte{0x7f}, random(99)...)}
	})},
	{"HTTP/2, random bytes behind a request", false, over(h2Only, true, func(*prober, *tls.Conn) [][]byte {
		return [][]byte{slices.Concat(preface, settings, get2(1)), append([]byte{0x7f}, random(99)...)}
	})},
	{"HTTP/2, SETTINGS of 5 bytes", false, over(h2Only, true, begun(frame(http2.FrameSettings, 0, 0, make([]byte, 5))))},
	{"HTTP/2, a header block that is none", false, over(h2Only, true, begun(frame(http2.FrameHeaders, 5, 1, bytes.Repeat([]byte{0xff}, 400))))},
	{"HTTP/2, HEADERS on stream 2", false, over(h2Only, true, begun(get2(2)))},
	{"HTTP/2, HEADERS on stream 0", false, over(h2Only, true, begun(get2(0)))},
	{"HTTP/2, HEADERS that go on for ever", false, over(h2Only, true, begun(
		frame(http2.FrameHeaders, 1, 1, headers(":method", "GET")), ack))},
	{"HTTP/2, DATA first", false, over(h2Only, true, begun(frame(http2.FrameData, 0, 1, make([]byte, 10))))},
	{"HTTP/2, RST_STREAM first", false, over(h2Only, true, begun(frame(http2.FrameRSTStream, 0, 1, make([]byte, 4))))},
	{"HTTP/2, a window that overflows", false, over(h2Only, true, begun(frame(http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})))},
	{"HTTP/2, a PING", false, over(h2Only, true, begun(frame(http2.FramePing, 0, 0, make([]byte, 8))))},
	{"HTTP/2, an unknown frame", false, over(h2Only, true, begun(frame(0xee, 0, 0, make([]byte, 80)), get2(1)))},
	{"HTTP/2, a frame too long", false, over(h2Only, true, begun(frame(http2.FrameData, 0, 1, make([]byte, 1<<20+1))))},
	{"HTTP/2, no path", false, over(h2Only, true, begun(frame(http2.FrameHeaders, 5, 1, headers(":method", "GET", ":scheme", "https"))))},
	{"HTTP/2, CONNECT", false, over(h2Only, true, begun(frame(http2.FrameHeaders, 5, 1, headers(":method", "CONNECT", ":authority", "other.example:443"))))},
	{"HTTP/2, POST and no body", false, over(h2Only, true, begun(frame(http2.FrameHeaders, 5, 1, headers(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/"))))},
	{"HTTP/2, two requests", false, over(h2Only, true, begun(get2(1), get2(3)))},
	{"HTTP/2, slow", false, over(h2Only, true, say(preface, settings, get2(1), goAway))},

	// Knocks.
	{"a random knock", false, over(h2Only, true, knocking(func(p *prober, _ *tls.Conn) []byte { return random(knockLen(p.w)) }))},
	{"a knock with one bit changed", false, over(h2Only, true, knocking(func(p *prober, c *tls.Conn) []byte {
		b := own(p, c)
		b[mrand.IntN(300)] ^= 1
		return b
	}))},
	{"a knock that is good elsewhere", false, over(h2Only, true, knocking(elsewhere))},
	{"a knock that is too short", false, over(h2Only, true, knocking(func(p *prober, c *tls.Conn) []byte { return own(p, c)[:300] }))},
	{"a good knock in the second request", false, over(h2Only, true, func(p *prober, c *tls.Conn) [][]byte {
		return [][]byte{slices.Concat(preface, settings, get2(1), get2(3, "cookie", "session="+text(own(p, c)))), goAway}
	})},
	{"a good knock over HTTP/1.1", false, over(h1Only, false, func(p *prober, c *tls.Conn) [][]byte {
		return [][]byte{[]byte("GET / HTTP/1.1\r\nHost: site.example\r\nCookie: session=" + text(own(p, c)) + "\r\nConnection: close\r\n\r\n")}
	})},
	{"a good knock and no end of the headers", false, over(h2Only, true, func(p *prober, c *tls.Conn) [][]byte {
		f := get2(1, "cookie", "session="+text(own(p, c)))
		f[4] &^= byte(http2.FlagHeadersEndHeaders)
		return [][]byte{slices.Concat(preface, settings, f), goAway}
	})},
	{"a good knock behind a PING", false, over(h2Only, true, func(p *prober, c *tls.Conn) [][]byte {
		return [][]byte{slices.Concat(preface, settings, frame(http2.FramePing, 0, 0, make([]byte, 8)),
			get2(1, "cookie", "session="+text(own(p, c)))), goAway}
	})},
	{"a good knock over X25519 alone", false, over(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"h2"}}, true,
		func(p *prober, c *tls.Conn) [][]byte {
			return [][]byte{slices.Concat(preface, settings, get2(1, "cookie", "session="+text(own(p, c)))), goAway}
		})},
}

// plain is a website of net/http and x/net/http2 alone.
func plain(t *testing.T, cert tls.Certificate) transporttest.World {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: website, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: quiet}
	//lint:ignore SA1019 the same HTTP/2 as the gateway's
	if err := http2.ConfigureServer(server, nil); err != nil {
		t.Fatal(err)
	}
	go server.ServeTLS(tcp, "", "")
	t.Cleanup(func() { server.Close() })
	w := transporttest.World{}
	w.Endpoint.Addr, w.Endpoint.Name = tcp.Addr().String(), "site.example"
	w.Endpoint.Pins = [][32]byte{https.KeyHash(cert.Leaf)}
	return w
}

// servers are the gateway and the two others.
func servers(t *testing.T) (gateway transporttest.World, all []transporttest.World, hello []byte) {
	cert, _ := certificate(t)
	gateway = startWith(t, cert)
	// Nobody takes what comes through the door: it must not open.
	go func() {
		if c, err := gateway.Listener.Accept(); err == nil {
			c.Close()
			t.Error("a probe opened the door")
		}
	}()
	rec := &sink{}
	tls.Client(rec, &tls.Config{ServerName: "site.example", NextProtos: []string{"h2"}}).Handshake()
	return gateway, []transporttest.World{gateway, plain(t, cert), plain(t, cert)}, rec.Bytes()
}

// sink takes a hello and answers nothing.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error)      { return s.Buffer.Write(b) }
func (s *sink) Read([]byte) (int, error)         { return 0, io.EOF }
func (s *sink) Close() error                     { return nil }
func (s *sink) SetDeadline(time.Time) error      { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func TestProbes(t *testing.T) {
	if len(probes) < 60 {
		t.Fatalf("%d probes, 60 were promised", len(probes))
	}
	gateway, all, hello := servers(t)
	// As many at once as a website would have visitors, and the gateway allows from one place.
	slots := make(chan struct{}, 16)
	type seen [3]map[string]int
	results := make([]seen, len(probes))
	took := make([]time.Duration, len(probes))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range *probeRounds {
		for i, pr := range probes {
			if pr.slow {
				continue
			}
			for _, s := range mrand.Perm(3) {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					began := time.Now()
					got := pr.run(&prober{w: all[s], grown: gateway, hello: hello})
					mu.Lock()
					defer mu.Unlock()
					if results[i][s] == nil {
						results[i][s] = map[string]int{}
					}
					results[i][s][got]++
					took[i] = max(took[i], time.Since(began))
				})
			}
		}
	}
	wg.Wait()
	for range max(1, *probeRounds/24) { // the slow ones, all at once
		for i, pr := range probes {
			if !pr.slow {
				continue
			}
			for s := range 6 {
				s := s % 3
				wg.Go(func() {
					got := pr.run(&prober{w: all[s], grown: gateway, hello: hello})
					mu.Lock()
					defer mu.Unlock()
					if results[i][s] == nil {
						results[i][s] = map[string]int{}
					}
					results[i][s][got]++
				})
			}
		}
		wg.Wait()
	}
	for i, pr := range probes {
		r := results[i]
		ours, floor := unlikely(r[0], r[1], r[2]), unlikely(r[1], r[2])
		if testing.Verbose() {
			t.Logf("%-42s chance %.3f (between the others %.3f), %d outcomes, %v", pr.name, ours, floor,
				len(union(r[0], r[1], r[2])), took[i].Round(time.Millisecond))
		}
		if ours < 1e-5 {
			t.Errorf("%s: the gateway is told apart (chance %.2g; between the others %.2g)\n%s", pr.name, ours, floor, table(r[:]))
		}
	}
}

// TestLengths sends random bytes of many lengths: the length at which a server changes its mind names programs.
func TestLengths(t *testing.T) {
	_, all, _ := servers(t)
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for n := 1 + mrand.IntN(*probeEvery); n <= 8192; n += *probeEvery {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b := random(n)
			for b[0] >= 20 && b[0] <= 23 { // one in 64 would begin like a record, and be waited for
				b = random(n)
			}
			for _, half := range []bool{true, false} {
				if !half && n < 5 {
					continue // less than a record's head is waited for
				}
				var got [3]map[string]int
				for range 6 {
					for s := range all {
						if got[s] == nil {
							got[s] = map[string]int{}
						}
						got[s][raw(half, b)(&prober{w: all[s]})]++
					}
					if len(union(got[0], got[1], got[2])) == 1 {
						break
					}
				}
				if unlikely(got[0], got[1], got[2]) < 1e-5 {
					t.Errorf("%d random bytes, half closed %v:\n%s", n, half, table(got[:]))
				}
			}
		})
	}
	wg.Wait()
}

func union(all ...map[string]int) map[string]int {
	sum := map[string]int{}
	for _, m := range all {
		for k, n := range m {
			sum[k] += n
		}
	}
	return sum
}

func table(all []map[string]int) string {
	var b strings.Builder
	for k := range union(all...) {
		for _, m := range all {
			fmt.Fprintf(&b, "%6d", m[k])
		}
		fmt.Fprintf(&b, "  %.300s\n", k)
	}
	return b.String()
}

// unlikely is the chance that a and the others together, if they were alike, would differ as much as they do: a
// permutation test on the statistic of Pearson's chi-squared.
func unlikely(a map[string]int, others ...map[string]int) float64 {
	b := union(others...)
	names := make([]string, 0, len(a)+len(b))
	for k := range union(a, b) {
		names = append(names, k)
	}
	slices.Sort(names)
	if len(names) < 2 {
		return 1
	}
	var all []int // an outcome each
	counts := func(m map[string]int) (c []int, n int) {
		for i, k := range names {
			c = append(c, m[k])
			n += m[k]
			for range m[k] {
				all = append(all, i)
			}
		}
		return c, n
	}
	ca, na := counts(a)
	cb, nb := counts(b)
	stat := func(ca, cb []int) (x float64) {
		for i := range names {
			total := float64(ca[i] + cb[i])
			ea, eb := total*float64(na)/float64(na+nb), total*float64(nb)/float64(na+nb)
			x += math.Pow(float64(ca[i])-ea, 2)/ea + math.Pow(float64(cb[i])-eb, 2)/eb
		}
		return x
	}
	seen, more := stat(ca, cb), 0
	const tries = 200_000
	for try := 1; try <= tries; try++ {
		mrand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		pa, pb := make([]int, len(names)), make([]int, len(names))
		for i, k := range all {
			if i < na {
				pa[k]++
			} else {
				pb[k]++
			}
		}
		if stat(pa, pb) >= seen-1e-9 {
			if more++; more >= 10 { // known well enough
				return float64(more) / float64(try)
			}
		}
	}
	return float64(more) / tries
}
