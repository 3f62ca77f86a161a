package https

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const testCookie = 480

// request is a browser's first flight with some header fields more.
func request(t testing.TB, stream uint32, end bool, fields ...hpack.HeaderField) []byte {
	t.Helper()
	var flight, block bytes.Buffer
	flight.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&flight, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush})
	f.WriteWindowUpdate(0, 1<<20)
	e := hpack.NewEncoder(&block)
	for _, field := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/"},
		{Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "site.example"}}, fields...) {
		e.WriteField(field)
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true,
		EndHeaders: end, Priority: http2.PriorityParam{Weight: 255, Exclusive: true}}); err != nil {
		t.Fatal(err)
	}
	return flight.Bytes()
}

func knockText(n int) string {
	b := make([]byte, base64.RawURLEncoding.DecodedLen(n))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func cookie(value string) hpack.HeaderField { return hpack.HeaderField{Name: "cookie", Value: value} }

// bomb is a request that names a long field again and again, in a byte each, and knocks at its end.
func bomb(t testing.TB, knock hpack.HeaderField, times int) []byte {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for range times {
		e.WriteField(cookie(strings.Repeat("; ", 400)))
	}
	e.WriteField(knock)
	f := []byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	f = append(f, 0, byte(block.Len()>>8), byte(block.Len()), byte(http2.FrameHeaders), 5, 0, 0, 0, 1)
	if block.Len() > maxBlock {
		t.Fatalf("a bomb of %d bytes is not looked into", block.Len())
	}
	return append(f, block.Bytes()...)
}

func TestWatchFinds(t *testing.T) {
	knock := knockText(testCookie)
	want, _ := base64.RawURLEncoding.DecodeString(knock)
	for name, fields := range map[string][]hpack.HeaderField{
		"alone":              {cookie("sid=" + knock)},
		"among others":       {cookie("a=b; sid=" + knock + "; c=d")},
		"in crumbs":          {cookie("a=b"), cookie("sid=" + knock)},
		"behind many fields": {{Name: "user-agent", Value: "a browser"}, {Name: "accept", Value: "*/*"}, cookie("x=" + knock)},
	} {
		flight := request(t, 1, true, fields...)
		for _, piece := range []int{1, 2, 7, 9, 24, 100, len(flight)} {
			w := newWatch(testCookie)
			for at := 0; at < len(flight); at += piece {
				p := flight[at:min(at+piece, len(flight))]
				got, used, done := w.feed(p)
				last := at+piece >= len(flight)
				if used != len(p) || done != last || last != bytes.Equal(got, want) {
					t.Fatalf("%s, in pieces of %d, at %d of %d: knock of %d bytes, used %d of %d, done %v", name, piece, at,
						len(flight), len(got), used, len(p), done)
				}
			}
		}
		// What comes behind the request in the same read is not its.
		if got, used, done := newWatch(testCookie).feed(append(bytes.Clone(flight), "frames"...)); !bytes.Equal(got, want) ||
			used != len(flight) || !done {
			t.Errorf("%s, with more behind it: used %d of %d", name, used, len(flight))
		}
	}
}

func TestWatchStops(t *testing.T) {
	knock := knockText(testCookie)
	good := request(t, 1, true, cookie("sid="+knock))
	settings := append([]byte(http2.ClientPreface), 0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0)
	for name, flight := range map[string][]byte{
		"not a preface":          append([]byte("GET / HTTP/1.1\r\n\r\n"), good...),
		"no cookie":              request(t, 1, true, hpack.HeaderField{Name: "x-filler", Value: knock}),
		"a short cookie":         request(t, 1, true, cookie("sid="+knock[1:])),
		"a long cookie":          request(t, 1, true, cookie("sid="+knock+"A")),
		"not base64url":          request(t, 1, true, cookie("sid="+knock[:479]+"=")),
		"on another stream":      request(t, 5, true, cookie("sid="+knock)),
		"headers that go on":     request(t, 1, false, cookie("sid="+knock)),
		"a header bomb":          bomb(t, hpack.HeaderField{Name: "cookie", Value: "sid=" + knock}, 600),
		"a long header block":    request(t, 1, true, cookie("sid="+knock), hpack.HeaderField{Name: "x", Value: knockText(4000)}),
		"another frame first":    append(append(settings, 0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0), make([]byte, 8)...),
		"a second request":       append(request(t, 1, true), good[24:]...),
		"too much ahead":         append(append(settings, bytes.Repeat(settings[24:], 700)...), good[24:]...),
		"a huge settings frame":  append([]byte(http2.ClientPreface), 0xff, 0xff, 0xff, byte(http2.FrameSettings), 0, 0, 0, 0, 0),
		"padded headers":         append(append(settings, 0, 2, 0, byte(http2.FrameHeaders), 0xd, 0, 0, 0, 1), make([]byte, 512)...),
		"a broken header block":  append(append(settings, 0, 2, 0, byte(http2.FrameHeaders), 5, 0, 0, 0, 1), bytes.Repeat([]byte{0xff}, 512)...),
		"priority and no more":   append(settings, 0, 0, 3, byte(http2.FrameHeaders), 0x25, 0, 0, 0, 1, 1, 2, 3),
		"HEADERS without a body": append(settings, 0, 0, 0, byte(http2.FrameHeaders), 5, 0, 0, 0, 1),
	} {
		w := newWatch(testCookie)
		knock, _, done := w.feed(flight)
		if knock != nil || !done || w.block != nil {
			t.Errorf("%s: knock of %d bytes, done %v, %d bytes held", name, len(knock), done, cap(w.block))
		}
	}
}

// Whatever comes, the watch takes no more memory than it says, and finds the same however the bytes are cut.
func FuzzWatch(f *testing.F) {
	f.Add(bomb(f, cookie("sid=short"), 900), uint16(8))
	f.Add(request(f, 1, true, cookie("sid="+knockText(testCookie))), uint16(3))
	f.Add(request(f, 1, true), uint16(50))
	f.Add([]byte(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		whole, _, _ := newWatch(testCookie).feed(b)
		w := newWatch(testCookie)
		var pieces []byte
		for at, n := 0, int(piece)+1; at < len(b); at += n {
			knock, _, done := w.feed(b[at:min(at+n, len(b))])
			if cap(w.block) > maxBlock {
				t.Fatalf("%d bytes are held", cap(w.block))
			}
			if done {
				pieces = knock
				break
			}
		}
		// A first read that is too long is not looked into; pieces of it may be.
		if len(b) <= maxWatched && !bytes.Equal(whole, pieces) {
			t.Errorf("a knock of %d bytes at once, %d in pieces", len(whole), len(pieces))
		}
	})
}
