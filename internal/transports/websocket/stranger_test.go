package websocket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// requests are a stranger's. %s is a cookie.
var requests = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n",
	"HEAD / HTTP/1.1\r\nHost: a\r\n%s\r\n",
	"GET / HTTP/1.0\r\n%s\r\n",
	"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: 0\r\n%s\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\n%s\r\n",
	"GET / HTTP/1.1\r\n%s\r\n", "NONSENSE\r\n\r\n", "\x16\x03\x01\x00\x05hello", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n%s\r\n",
}

var cookies = []string{"", "Cookie: a=b\r\n", "Cookie: sid=00112233445566778899aabbccddeeff; uid=00112233445566778899aabbccddeeff\r\n",
	"Cookie: sid=00112233445566778899aabbccddeeff\r\nCookie: uid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
	"Cookie: " + strings.Repeat("sid=00112233445566778899aabbccddeeff; ", 100) + "\r\n"}

var greetingLine = regexp.MustCompile(`(?m)^(Set-Cookie: \w+=[0-9a-f]{32}; Path=/; HttpOnly|Date: .*)\r\n`)

// ask sends a request and reads all that comes.
func ask(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, request)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	return fmt.Sprint(greetingLine.ReplaceAllString(string(b), ""), " ", err)
}

// serve runs a plain server of HTTP.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := https.NewServer(h)
	go server.Serve(tcp)
	t.Cleanup(func() { server.Close() })
	return tcp.Addr().String()
}

// A stranger's answers are the website's, but for the nonce.
func TestStrangers(t *testing.T) {
	key, _, leaf := identity(t)
	l := inner(t, key, nil)
	defer l.Close()
	step := doorstep.New(doorstep.Config{Door: transporttest.Lock{}, Pin: transport.KeyHash(leaf)})
	ours, plain := serve(t, Handler(website, step, l)), serve(t, website)
	for _, request := range requests {
		for _, cookie := range cookies {
			request := strings.Replace(request, "%s", cookie, 1)
			if got, want := ask(t, ours, request), ask(t, plain, request); got != want {
				t.Errorf("%q is answered with\n%q\ninstead of\n%q", request, got, want)
			}
		}
	}
}

// A proof opens once, and only for a WebSocket.
func TestReplay(t *testing.T) {
	key, _, leaf := identity(t)
	l := inner(t, key, nil)
	defer l.Close()
	step := doorstep.New(doorstep.Config{Door: transporttest.Lock{}, Pin: transport.KeyHash(leaf)})
	addr := serve(t, Handler(website, step, l))
	w := httptest.NewRecorder()
	step.Greet(w.Header())
	name, nonce := doorstep.Nonce(w.Header())
	cookie, _ := doorstep.Answer(name, nonce, transport.Endpoint{Pins: [][32]byte{{}}, Opener: transporttest.Key{}})
	for i, c := range []struct{ request, first string }{{requests[0], "HTTP/1.1 200"}, {requests[4], "HTTP/1.1 200"},
		{requests[5], "HTTP/1.1 101"}, {requests[5], "HTTP/1.1 200"}} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, strings.Replace(c.request, "%s", "Cookie: "+cookie+"\r\n", 1))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, c.first) {
			t.Errorf("request %d is answered with %q, %v", i, line, err)
		}
		conn.Close()
	}
}
