package http

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// Handler is the gateway's end: next, around which uploads that bring a right proof are taken out and handed to l.
// Everyone else is answered by next, and finds a nonce in the answer. It is for servers of plain HTTP/1.1.
func Handler(next http.Handler, step *doorstep.Step, l *pipe.Listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if shade, ok := step.Opens(r, isUpload(r)); ok && answer(w, r, step, l, shade) {
			return
		}
		step.Greet(w.Header())
		next.ServeHTTP(w, r)
	})
}

// isUpload takes Transfer-Encoding, too: a proxy may have made that of the length.
func isUpload(r *http.Request) bool {
	return r.Method == http.MethodPost && r.ProtoAtLeast(1, 1) && r.ProtoMajor == 1 &&
		(r.ContentLength > 0 || slices.Equal(r.TransferEncoding, []string{"chunked"}))
}

// answer serves a link, and returns when it has ended. It reports whether the connection was one to do that with.
func answer(w http.ResponseWriter, r *http.Request, step *doorstep.Step, l *pipe.Listener, shade [32]byte) bool {
	raw, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	below := tcp.Linked(raw)
	var head strings.Builder
	head.WriteString("HTTP/1.1 200 OK\r\n")
	h := http.Header{"Content-Type": {contentType}, "Cache-Control": {"no-store"}}
	step.Greet(h) // as in every answer
	h.Write(&head)
	head.WriteString("Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\nTransfer-Encoding: chunked\r\n\r\n")
	if _, err := io.WriteString(below, head.String()); err != nil {
		below.Close()
		return true
	}
	var early []byte
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		early = bytes.Clone(b)
	}
	var body io.Reader = bufio.NewReader(io.MultiReader(bytes.NewReader(early), below))
	if r.ContentLength > 0 {
		body = io.LimitReader(body, r.ContentLength)
	} else {
		body = httputil.NewChunkedReader(body)
	}
	c := &conn{Below: tcp.Below{Conn: below}, in: body, chunked: true}
	c.unshade, c.shade = shading(shade)
	l.Serve(c)
	return true
}
