package https_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	mrand "math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// What the servers are probed with.

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
