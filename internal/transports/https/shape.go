package https

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// shape is how many bytes the website puts into each write when it answers a browser's first request: a link begins
// with writes of the same lengths.
type shape []int

const (
	// shapeMax bounds what is imitated of an answer, in bytes: a link should not begin with a picture's worth of nothing.
	shapeMax     = 8 << 10
	shapeTries   = 5 // the server's writes race one another, so that its answers differ a little
	shapeTimeout = 5 * time.Second
	shapeLasts   = 10 * time.Minute // the website may change
)

// shapes are a website's shapes, as they were when last looked at. Safe for concurrent use.
type shapes struct {
	website http.Handler
	cookie  string

	mu      sync.Mutex
	at      time.Time // when looked at last
	all     []shape
	looking bool
}

// pick returns one of them, and looks again when they have become old.
func (s *shapes) pick() shape {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.looking && time.Since(s.at) > shapeLasts {
		s.looking = true
		go s.look()
	}
	if len(s.all) == 0 {
		return nil
	}
	picked := slices.Clone(s.all[rand.IntN(len(s.all))])
	picked[0] += dateLen(time.Now()) - dateLen(s.at)
	return picked
}

// dateLen is how long the date is in an answer's HEADERS: HPACK writes some digits in five bits and others in six.
func dateLen(t time.Time) int {
	return int(hpack.HuffmanEncodeLength(t.UTC().Format(http.TimeFormat)))
}

// lookFirst looks, and waits for that only as long as a website takes that works: a proxy's may be down.
func (s *shapes) lookFirst() {
	s.looking = true
	looked := make(chan struct{})
	go func() {
		s.look()
		close(looked)
	}()
	select {
	case <-looked:
	case <-time.After(time.Second):
	}
}

// look asks the website for its first page, as a browser would that has been there before.
func (s *shapes) look() {
	var all []shape
	for range shapeTries {
		if found := shapeOf(s.website, s.cookie); found != nil {
			all = append(all, found)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looking, s.at = false, time.Now()
	if all != nil {
		s.all = all
	}
}

// shapeOf has one answer from the website's HTTP/2 server, in memory. The request follows the server's greeting, since a
// link has greeted when it comes to answer: otherwise the server writes the answer's HEADERS together with it, at times.
func shapeOf(website http.Handler, cookie string) shape {
	near, far := net.Pipe()
	defer near.Close()
	near.SetDeadline(time.Now().Add(shapeTimeout))
	go serveHTTP2(NewServer(website), far, website)
	opening := chrome.Opening("localhost", cookie)
	go near.Write(opening[0])
	var found shape
	var seen frames
	greeted, total := false, 0
	b := make([]byte, 64<<10)
	for total < shapeMax {
		n, err := near.Read(b)
		if err != nil {
			return nil
		}
		if !greeted {
			if greeted = seen.feed(b[:n], isGreeted); greeted {
				go near.Write(opening[1])
			}
			continue
		}
		found = append(found, n)
		total += n
		if seen.feed(b[:n], isAnswered) {
			return found
		}
	}
	return found
}

// reply is how a link of the gateway begins: the marker, what the link has to say, and filler, in writes like the
// website's.
type reply struct {
	shape  shape
	filler transport.Filler
}

// The marker is what only the ends of this connection can export: the gateway's answer that the door is open.
const (
	markerLen   = 16
	markerLabel = "EXPORTER-godwit-marker"
)

// writes returns what to write for the marker and the link's first bytes.
func (r *reply) writes(marker []byte, bufs [][]byte) [][]byte {
	gap := 0
	for _, n := range r.shape {
		gap += n
	}
	gap -= headLen + markerLen
	for _, b := range bufs {
		gap -= len(b)
	}
	extra := 0 // what is too little for a filler goes into the marker's frame
	if gap < transport.LeastFiller {
		extra, gap = max(gap, 0), 0
	}
	all := appendMarker(nil, marker, extra)
	for _, b := range bufs {
		all = append(all, b...)
	}
	if gap > 0 {
		all = r.filler.AppendFiller(all, gap)
	}
	var out [][]byte
	for _, n := range r.shape {
		n = min(n, len(all))
		out = append(out, all[:n])
		all = all[n:]
	}
	if len(all) > 0 {
		out = append(out, all)
	}
	return out
}

// appendMarker appends the marker in a frame that an HTTP/2 client would take for the answer's HEADERS.
func appendMarker(b, marker []byte, extra int) []byte {
	buf := bytes.NewBuffer(b)
	http2.NewFramer(buf, nil).WriteHeaders(http2.HeadersFrameParam{ // to memory, and short: it cannot fail
		StreamID: 1, BlockFragment: append(slices.Clone(marker), make([]byte, extra)...), EndHeaders: true})
	return buf.Bytes()
}
