package https

import (
	"bytes"
	"crypto/sha256"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func cookieFor([sha256.Size]byte) (string, int) { return "session", 480 }

func opening(authority, cookie string) [][]byte {
	var a, b, block bytes.Buffer
	a.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&a, nil)
	fr.WriteSettings(http2.Setting{ID: 1, Val: 65536}, http2.Setting{ID: 2, Val: 0}, http2.Setting{ID: 4, Val: 6291456}, http2.Setting{ID: 6, Val: 262144})
	fr.WriteWindowUpdate(0, 15663105)
	e := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":authority", Value: authority}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/"}, {Name: "cookie", Value: cookie}} {
		e.WriteField(f)
	}
	http2.NewFramer(&b, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	return [][]byte{a.Bytes(), b.Bytes()}
}
