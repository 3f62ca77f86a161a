package quic

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"

	"github.com/quic-go/qpack"
	"github.com/sagernet/quic-go/quicvarint"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/knock"
)

// nextProto is HTTP/3's name in TLS.
const nextProto = "h3"

// The types of HTTP/3's frames and of its control stream (RFC 9114, sections 6.2 and 7.2; RFC 9218, section 7.2).
const (
	frameHeaders        = 1
	frameSettings       = 4
	framePriorityUpdate = 0xf0700

	streamControl = 0
)

func appendFrame(b []byte, kind uint64, body []byte) []byte {
	b = quicvarint.Append(b, kind)
	b = quicvarint.Append(b, uint64(len(body)))
	return append(b, body...)
}

// control is what Chrome says on its control stream, the only one-way stream that it opens: those of QPACK it would open
// for a server that keeps a table.
func control() []byte {
	var settings []byte
	for _, s := range [][2]uint64{
		{0x01, 65536},  // SETTINGS_QPACK_MAX_TABLE_CAPACITY
		{0x06, 262144}, // SETTINGS_MAX_FIELD_SECTION_SIZE
		{0x07, 100},    // SETTINGS_QPACK_BLOCKED_STREAMS
		{0x33, 1},      // SETTINGS_H3_DATAGRAM
		{reserved(), uint64(mrand.Uint32())},
	} {
		settings = quicvarint.Append(quicvarint.Append(settings, s[0]), s[1])
	}
	nothing := make([]byte, mrand.IntN(4))
	rand.Read(nothing)
	b := appendFrame(quicvarint.Append(nil, streamControl), frameSettings, settings)
	b = appendFrame(b, reserved(), nothing)
	return appendFrame(b, framePriorityUpdate, []byte("\x00u=0, i")) // of stream 0
}

// reserved is a number that means nothing, for a setting and a frame (RFC 9114, sections 7.2.4.1 and 7.2.8).
func reserved() uint64 { return 0x1f*uint64(mrand.Uint32()) + 0x21 }

// request is Chrome's navigation to https://authority/.
func request(authority, cookie string) ([]byte, error) {
	var block bytes.Buffer
	enc := qpack.NewEncoder(&block)
	for _, f := range chrome.Fields(authority, cookie) {
		if err := enc.WriteField(qpack.HeaderField{Name: f.Name, Value: f.Value}); err != nil {
			return nil, err
		}
	}
	return appendFrame(nil, frameHeaders, block.Bytes()), nil
}

const (
	// maxBlock is how long a header block may be for a knock to be looked for in it. A client's has up to 1.1 KiB.
	maxBlock = 2 << 10
	// maxFields bounds what it unfolds to, as RFC 9114 §4.2.2 counts it: a byte of it can stand for a line of the static
	// table. A client's fields have up to 2 KiB.
	maxFields = 4 << 10
)

// findKnock decodes a header block and returns the first cookie that is as long as a knock and spelt as one.
func findKnock(block []byte, knockLen int) []byte {
	next := qpack.NewDecoder().Decode(block)
	unfolded := 0
	for {
		f, err := next()
		if err != nil {
			return nil // also io.EOF, after the last one
		}
		if unfolded += len(f.Name) + len(f.Value) + 32; unfolded > maxFields {
			return nil
		}
		if f.Name != "cookie" {
			continue
		}
		if found := knock.Find(f.Value, knockLen); found != nil {
			return found
		}
	}
}

// The marker is what only the ends of this connection can export: the gateway's answer that the door is open.
const (
	markerLen   = 16
	markerLabel = "EXPORTER-godwit-marker"
	// maxMarker is how long the frame with the marker may be.
	maxMarker = 16 << 10
)

// readMarker reads the first frame of the gateway's answer. It reports whether it begins with the marker.
func readMarker(r io.Reader, marker []byte) (bool, error) {
	in := quicvarint.NewReader(r)
	kind, err := quicvarint.Read(in)
	if err != nil {
		return false, err
	}
	length, err := quicvarint.Read(in)
	if err != nil {
		return false, err
	}
	if kind != frameHeaders || length < markerLen || length > maxMarker {
		return false, nil
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return false, err
	}
	return bytes.Equal(body[:markerLen], marker), nil
}

// parseHead reads the header of a frame as far as it is there: its length in bytes and that of the body. It asks for
// more with errShort.
func parseHead(b []byte) (kind, length uint64, head int, err error) {
	kind, n, err := quicvarint.Parse(b)
	if err != nil {
		return 0, 0, 0, errShort
	}
	length, m, err := quicvarint.Parse(b[n:])
	if err != nil {
		return 0, 0, 0, errShort
	}
	return kind, length, n + m, nil
}

var errShort = errors.New("the frame's header is not all there")
