package https

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transports/knock"
)

// watch follows what an HTTP/2 server reads until the first request is complete, and looks for a knock in its cookies.
//
//	preface (24 bytes) | SETTINGS, WINDOW_UPDATE in any number | HEADERS of stream 1 or 3, END_HEADERS | …
//
// Chrome's first stream is 1, Firefox's 3.
//
// Whatever else comes, or comes late, or is longer than a browser's first request: it was a visitor of the website, and
// the watch is over. It is not safe for concurrent use.
type watch struct {
	knockLen int // of the cookie's value in characters

	state watchState
	seen  int // bytes
	head  [headLen]byte
	n     int // bytes of head, or of the preface
	left  int // bytes of the frame that are still to come
	block []byte
}

type watchState uint8

const (
	inPreface watchState = iota
	inHead
	inBody
	inHeaders
	watchOver
)

const (
	// maxWatched is how much may come until the first request is complete, and maxBlock how long its header block may
	// be: with that a stranger costs at most these 2 KiB more than the website's own, and the tap itself. A client's block
	// has up to 1.1 KiB.
	maxWatched = 6 << 10
	maxBlock   = 2 << 10
	// maxFields bounds what a header block unfolds to, as RFC 9113 §6.5.2 counts it: a single byte of it can stand for a
	// cookie of the block's length, a thousand times. A client's fields have up to 2 KiB.
	maxFields = 4 << 10
)

func newWatch(knockLen int) *watch { return &watch{knockLen: knockLen} }

// feed takes the next bytes that the server reads. It returns a candidate when they complete a first request that has
// one, and how many of the bytes that took. done says that nothing more is looked for.
func (w *watch) feed(p []byte) (knock []byte, used int, done bool) {
	total := len(p)
	if w.seen += total; w.seen > maxWatched {
		// What matters may be at the beginning of p, but a browser's first flight is not that long.
		w.stop()
	}
	for len(p) > 0 && w.state != watchOver {
		switch w.state {
		case inPreface:
			n := min(len(p), len(http2.ClientPreface)-w.n)
			if string(p[:n]) != http2.ClientPreface[w.n:w.n+n] {
				w.stop()
				break
			}
			if w.n, p = w.n+n, p[n:]; w.n == len(http2.ClientPreface) {
				w.state, w.n = inHead, 0
			}
		case inHead:
			n := copy(w.head[w.n:], p)
			if w.n, p = w.n+n, p[n:]; w.n == headLen {
				w.n = 0
				w.begin()
			}
		case inBody:
			n := min(len(p), w.left)
			if w.left, p = w.left-n, p[n:]; w.left == 0 {
				w.state = inHead
			}
		case inHeaders:
			n := min(len(p), w.left)
			w.block = append(w.block, p[:n]...)
			if w.left, p = w.left-n, p[n:]; w.left == 0 {
				knock = w.find()
				w.stop()
			}
		}
	}
	return knock, total - len(p), w.state == watchOver
}

func (w *watch) stop() { w.state, w.block = watchOver, nil }

// begin decides what the frame is whose header is complete.
func (w *watch) begin() {
	h := parseHead(w.head)
	length := int(h.Length)
	switch {
	case (h.Type == http2.FrameSettings || h.Type == http2.FrameWindowUpdate) && h.StreamID == 0 && length < maxWatched:
		if w.left, w.state = length, inBody; length == 0 {
			w.state = inHead
		}
	case h.Type == http2.FrameHeaders && (h.StreamID == 1 || h.StreamID == 3) && h.Flags.Has(http2.FlagHeadersEndHeaders) &&
		!h.Flags.Has(http2.FlagHeadersPadded) && length >= w.knockLen*5/8 && length <= maxBlock:
		w.left, w.state, w.block = length, inHeaders, make([]byte, 0, length)
	default: // a header block that is too short for a knock is not even decoded
		w.stop()
	}
}

// find decodes the header block and returns the first cookie that is as long as a knock and spelt as one.
func (w *watch) find() (found []byte) {
	block := w.block
	if parseHead(w.head).Flags.Has(http2.FlagHeadersPriority) {
		if len(block) < 5 {
			return nil
		}
		block = block[5:]
	}
	var d *hpack.Decoder
	unfolded := uint32(0)
	d = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if unfolded += f.Size(); unfolded > maxFields {
			d.SetEmitEnabled(false)
			return
		}
		if f.Name == "cookie" && found == nil {
			found = knock.Find(f.Value, w.knockLen)
		}
	})
	d.SetMaxStringLength(maxBlock)
	if _, err := d.Write(block); err != nil {
		return nil
	}
	if d.Close() != nil {
		return nil
	}
	return found
}
