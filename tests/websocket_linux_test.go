package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
)

// echo upgrades to a WebSocket (RFC 6455) and sends every frame back as it came, unmasked: a message that was sent in
// pieces returns in the same pieces.
func echo(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	hijacker, ok := w.(http.Hijacker)
	if key == "" || !ok {
		http.Error(w, "only for WebSockets over HTTP/1.1", http.StatusBadRequest)
		return
	}
	conn, rw, err := hijacker.Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // §1.3
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
	for rw.Flush() == nil {
		closing, err := echoFrame(rw)
		if err != nil || closing {
			_ = rw.Flush()
			return
		}
	}
}

// echoFrame reads one frame (§5.2) and writes it back.
func echoFrame(rw *bufio.ReadWriter) (closing bool, err error) {
	const ping, pong, goodbye = 9, 10, 8
	var head [2]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return false, err
	}
	kind, length := head[0]&15, uint64(head[1]&127)
	long := make([]byte, map[uint64]int{126: 2, 127: 8}[length])
	if _, err := io.ReadFull(rw, long); err != nil {
		return false, err
	}
	switch len(long) {
	case 2:
		length = uint64(binary.BigEndian.Uint16(long))
	case 8:
		length = binary.BigEndian.Uint64(long)
	}
	var mask [4]byte
	if _, err := io.ReadFull(rw, mask[:]); err != nil || length > 16<<20 {
		return true, err
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(rw, payload); err != nil {
		return false, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	if kind == pong {
		return false, nil
	}
	if kind == ping {
		head[0] += pong - ping
	}
	_, _ = rw.Write([]byte{head[0], head[1] & 127})
	_, _ = rw.Write(long)
	_, err = rw.Write(payload)
	return kind == goodbye, err
}
