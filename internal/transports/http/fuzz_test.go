package http

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// talk is a client to which a server says this.
func talk(says []byte) (got []byte, err error) {
	var sent bytes.Buffer
	sock := &tcp.Conn{Conn: &canned{in: bytes.NewReader(says), out: &sent}}
	v := &visit{sock: sock, host: "site.example", wait: time.Second,
		ep: transport.Endpoint{Pins: [][32]byte{{1}}, Opener: transporttest.Key{}}}
	v.limit = &io.LimitedReader{R: sock, N: doorstep.MaxPage + doorstep.MaxPageHeader}
	v.r = bufio.NewReader(v.limit)
	if _, err := v.page(context.Background()); err != nil {
		return nil, err
	}
	u, err := v.post()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(u)
}

const (
	firstAnswer = "HTTP/1.1 301 Moved Permanently\r\nContent-Length: 2\r\nSet-Cookie: sid=00112233445566778899aabbccddeeff; Path=/\r\n\r\nhi"
	nextAnswer  = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n0\r\n\r\n"
)

func TestTalk(t *testing.T) {
	if got, err := talk([]byte(firstAnswer + nextAnswer)); len(got) != 5 || err != nil {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
}

func FuzzTalk(f *testing.F) {
	f.Add([]byte(firstAnswer + nextAnswer))
	f.Add([]byte(firstAnswer + "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\nbytes"))
	f.Fuzz(func(t *testing.T, says []byte) {
		if got, _ := talk(says); len(got) > len(says) {
			t.Errorf("of %d bytes %d were read", len(says), len(got))
		}
	})
}
