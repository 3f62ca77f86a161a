package quic

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/sagernet/quic-go/quicvarint"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// reply is how a link of the gateway begins: the marker, what the link has to say, and filler, as many bytes as the
// website's answer to a browser's first request has. Packets are filled from a stream as they are, so that is all that
// could be seen of an answer.
type reply struct {
	length int
	filler transport.Filler
}

// begin returns what to write for the marker and the link's first bytes.
func (r *reply) begin(marker []byte, bufs [][]byte) [][]byte {
	gap := r.length - len(appendFrame(nil, frameHeaders, marker))
	for _, b := range bufs {
		gap -= len(b)
	}
	if gap < transport.LeastFiller {
		body := append(bytes.Clone(marker), make([]byte, max(gap, 0))...) // too little for a filler
		return append([][]byte{appendFrame(nil, frameHeaders, body)}, bufs...)
	}
	all := append([][]byte{appendFrame(nil, frameHeaders, marker)}, bufs...)
	return append(all, r.filler.AppendFiller(nil, gap))
}

const (
	// answerMax bounds what is imitated of an answer, in bytes: a link should not begin with a picture's worth of nothing.
	answerMax   = 8 << 10
	answerTime  = 5 * time.Second
	answerLasts = 10 * time.Minute // the website may change
)

// answers knows how long the website's answer is, as it was when last looked at. Safe for concurrent use.
type answers struct {
	website http.Handler
	cookie  string

	mu      sync.Mutex
	at      time.Time
	looking bool
	found   int
}

// length is how long the answer is, and looks again when that is old.
func (a *answers) length() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.looking && time.Since(a.at) > answerLasts {
		a.looking = true
		go a.look()
	}
	return a.found
}

// look asks the website for its first page, as a browser would that has been there before.
func (a *answers) look() {
	found := answerLen(a.website, a.cookie)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looking, a.at = false, time.Now()
	if found > 0 {
		a.found = found
	}
}

// answerLen is how many bytes of stream the answer takes, of as many as are imitated; 0 if there is none.
func answerLen(website http.Handler, cookie string) int {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://localhost/", nil)
	if err != nil {
		return 0
	}
	r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor = "/", "HTTP/3.0", 3, 0
	for _, f := range chrome.Fields("localhost", cookie) {
		if f.Name[0] != ':' {
			r.Header.Add(f.Name, f.Value)
		}
	}
	w := &answer{header: make(http.Header)}
	func() {
		defer func() { // a proxy whose upstream breaks off panics, as it may in a server
			if recover() != nil {
				w = &answer{}
			}
		}()
		website.ServeHTTP(w, r)
	}()
	if w.header == nil {
		return 0
	}
	return w.length()
}

// answer is the website's, counted.
type answer struct {
	header http.Header
	status int
	writes []int
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *answer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.writes = append(w.writes, len(b))
	return len(b), nil
}

// length is that of HEADERS and DATA as the HTTP/3 server writes them.
func (w *answer) length() int {
	var block bytes.Buffer
	enc := qpack.NewEncoder(&block)
	put := func(name, value string) { enc.WriteField(qpack.HeaderField{Name: name, Value: value}) } // to memory
	put(":status", strconv.Itoa(max(w.status, http.StatusOK)))
	for name, values := range w.header {
		for _, v := range values {
			put(http.CanonicalHeaderKey(name), v)
		}
	}
	if w.header.Get("Date") == "" {
		put("date", time.Now().UTC().Format(http.TimeFormat))
	}
	total := len(appendFrame(nil, frameHeaders, block.Bytes()))
	for _, n := range w.writes {
		total += 1 + quicvarint.Len(uint64(n)) + n
	}
	return min(total, answerMax)
}
