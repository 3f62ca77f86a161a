package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net/http"
	"strings"

	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

// Handler is the gateway's end: next, around which requests for a WebSocket that bring a right proof are taken out and
// handed to l. Everyone else is answered by next, and finds a nonce in the answer. It is for servers of HTTP/1.1, with TLS
// of their own or behind a front; by HTTP/2 it hands out nonces.
func Handler(next http.Handler, step *doorstep.Step, l *pipe.Listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := step.Opens(r, isUpgrade(r)); ok && upgrade(w, r, l) {
			return
		}
		step.GreetSite(w.Header())
		next.ServeHTTP(w, r)
	})
}

// isUpgrade is RFC 6455, section 4.2.1.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && hasToken(r.Header["Connection"], "upgrade") &&
		hasToken(r.Header["Upgrade"], "websocket") && r.Header.Get("Sec-WebSocket-Version") == "13" &&
		r.Header.Get("Sec-WebSocket-Key") != ""
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for word := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(word), token) {
				return true
			}
		}
	}
	return false
}

// accepted answers a Sec-WebSocket-Key.
func accepted(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// upgrade serves a link, and returns when it has ended. It reports whether the connection was one to do that with.
func upgrade(w http.ResponseWriter, r *http.Request, l *pipe.Listener) bool {
	raw, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	below := l.Under(raw)
	// In the order, and with the headers, of Go's own reverse proxy in front of such a server.
	_, err = io.WriteString(below, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-Websocket-Accept: "+
		accepted(r.Header.Get("Sec-WebSocket-Key"))+"\r\nUpgrade: websocket\r\n\r\n")
	if err != nil {
		below.Close()
		return true
	}
	var early []byte
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		early = bytes.Clone(b)
	}
	l.Serve(newConn(below, bufio.NewReader(io.MultiReader(bytes.NewReader(early), below)), false, 0))
	return true
}
