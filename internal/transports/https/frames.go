package https

import (
	"bytes"

	"golang.org/x/net/http2"
)

// headLen is the length of an HTTP/2 frame's header: length (24), type (8), flags (8), stream (32) (RFC 9113 §4.1).
const headLen = 9

// parseHead reads a header that is all there.
func parseHead(head [headLen]byte) http2.FrameHeader {
	h, _ := http2.ReadFrameHeader(bytes.NewReader(head[:])) // fails for want of bytes alone
	return h
}

// frames follows HTTP/2 frames in bytes that come in any pieces.
type frames struct {
	head [headLen]byte
	n    int
	left int
}

// feed takes the next bytes, until is reports true of a frame's type and flags.
func (f *frames) feed(p []byte, is func(http2.FrameType, http2.Flags) bool) bool {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left, p = f.left-n, p[n:]
			continue
		}
		n := copy(f.head[f.n:], p)
		f.n, p = f.n+n, p[n:]
		if f.n < headLen {
			break
		}
		h := parseHead(f.head)
		f.n, f.left = 0, int(h.Length)
		if is(h.Type, h.Flags) {
			return true
		}
	}
	return false
}

// isGreeted is true of what a server writes last before it reads a request: the acknowledgement of the SETTINGS.
func isGreeted(kind http2.FrameType, flags http2.Flags) bool {
	return kind == http2.FrameSettings && flags.Has(http2.FlagSettingsAck)
}

// isAnswered is true of the last frame of an answer.
func isAnswered(kind http2.FrameType, flags http2.Flags) bool {
	return (kind == http2.FrameData || kind == http2.FrameHeaders) && flags.Has(http2.FlagDataEndStream)
}
