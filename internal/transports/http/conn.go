package http

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// shading are the two key streams of a nonce.
func shading(shade [32]byte) (fromClient, fromGateway cipher.Stream) {
	return stream(shade[:16]), stream(shade[16:])
}

func stream(key []byte) cipher.Stream {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // for other lengths than this only
	}
	return cipher.NewCTR(block, make([]byte, aes.BlockSize))
}

// errUploaded ends a connection whose upload is complete.
var errUploaded = errors.New("the upload is complete")

// conn is bytes in two bodies. It is a tcp.Layer. One Read and one Write may run at once.
type conn struct {
	tcp.Below
	in      io.Reader // the far end's body
	unshade cipher.Stream

	mu      sync.Mutex
	shade   cipher.Stream
	chunked bool
	left    int64 // of our body, if it is not chunked
}

var _ tcp.Layer = (*conn)(nil)

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.unshade.XORKeyStream(b[:n], b[:n])
	return n, err
}

// buffers hold what one Write makes: a batch of the session, sealed, and the chunk's overhead.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 152<<10); return &b }}

// Write implements net.Conn: all of it in one write, and one chunk.
func (c *conn) Write(b []byte) (int, error) {
	if len(b) == 0 { // a chunk of nothing would be the last one
		return 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	out := (*buf)[:0]
	if c.chunked {
		out = append(strconv.AppendUint(out, uint64(len(b)), 16), "\r\n"...)
	} else if c.left -= int64(len(b)); c.left < 0 {
		return 0, errUploaded
	}
	at := len(out)
	out = append(out, b...)
	c.shade.XORKeyStream(out[at:], out[at:])
	if c.chunked {
		out = append(out, "\r\n"...)
	}
	*buf = out
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}
