package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestUpgrade(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	no := strings.Repeat("no ", maxResponseHeader) // longer than a header may be
	var mu sync.Mutex
	var header string
	at := raw(t, func(c *net.TCPConn, h string, after *bufio.Reader) {
		mu.Lock()
		header = h
		mu.Unlock()
		if strings.HasPrefix(h, "GET /no ") {
			fmt.Fprintf(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 426 No\r\nContent-Length: %d\r\nX-Why: tired\r\n\r\n%s",
				len(no), no)
			return
		}
		// The first frame comes with the answer.
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-Websocket-Accept: ok\r\n\r\nwelcome ")
		io.Copy(c, after)
		io.WriteString(c, " bye")
		c.CloseWrite()
	})
	c := r.dial(t)
	fmt.Fprintf(c, "GET http://%s/chat HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-Websocket-Key: k\r\nProxy-Connection: x\r\n\r\nalready ", at, at)
	mustRead(t, c, []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-Websocket-Accept: ok\r\n"+
		"Upgrade: websocket\r\n\r\n"))
	mustRead(t, c, []byte("welcome "))
	mustWrite(t, c, []byte("there"))
	c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "already there bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	mu.Lock()
	want := "GET /chat HTTP/1.1\r\nHost: " + at + "\r\nConnection: Upgrade\r\nSec-Websocket-Key: k\r\n" +
		"Upgrade: websocket\r\n\r\n"
	if header != want {
		t.Errorf("the site saw %q, want %q", header, want)
	}
	mu.Unlock()

	c = r.dial(t)
	fmt.Fprintf(c, "GET http://%s/no HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", at)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); resp.StatusCode != 426 || string(got) != no || err != nil ||
		resp.Header.Get("X-Why") != "tired" {
		t.Errorf("%d %d bytes %v %v", resp.StatusCode, len(got), err, resp.Header)
	}
}
