package http

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

func TestMain(m *testing.M) {
	// net/http lets half a second pass before it closes after a bad request.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const waits = 10 * time.Second

// serve runs the server that answers on port 80.
func serve(t testing.TB, h http.Handler) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := https.NewServer(h)
	var served sync.WaitGroup
	served.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		served.Wait()
	})
	return l.Addr().String(), func() { server.Close() }
}

type gateway struct {
	*pipe.Listener
	stop func()
}

func (g *gateway) Close() error {
	g.stop()
	return g.Listener.Close()
}

// start runs a gateway whose port 80 has next on it.
func start(t testing.TB, next http.Handler) transporttest.World {
	t.Helper()
	key, pin := transporttest.NewKey(t)
	l, err := pipe.Listen(pipe.ListenConfig{Key: key, Door: transporttest.Lock{}})
	if err != nil {
		t.Fatal(err)
	}
	addr, stop := serve(t, Handler(next, doorstep.New(doorstep.Config{Door: transporttest.Lock{}, Pin: pin}), l))
	t.Cleanup(func() { l.Close() })
	return transporttest.World{Dialer: &Dialer{}, Listener: &gateway{l, stop},
		Endpoint: transport.Endpoint{Addr: addr, Name: "site.example", Pins: [][32]byte{pin}, Opener: transporttest.Key{}}}
}

func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World { return start(t, decoy.Redirect(443)) })
}

// A server that closes after every answer of its own costs a second connection.
func TestClosing(t *testing.T) {
	w := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		decoy.Redirect(443).ServeHTTP(w, r)
	}))
	go transporttest.AcceptOne(w.Listener)
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestThroughProxy(t *testing.T) {
	w := start(t, decoy.Redirect(443))
	w.Endpoint.Addr = nginx(t, "proxy_request_buffering off; proxy_buffering off;", w.Endpoint.Addr)
	echo(t, w, 1<<20)
}

// echo sends so many bytes there and back.
func echo(t *testing.T, w transporttest.World, size int) {
	t.Helper()
	var echoed sync.WaitGroup
	defer echoed.Wait()
	echoed.Go(func() {
		if c, err := w.Listener.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	})
	defer w.Listener.Close()
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(waits))
	want := make([]byte, size)
	rand.Read(want)
	echoed.Go(func() { c.Write(want) })
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came back, %v", n, size, err)
	}
}

// A proxy that gathers uploads is named, and soon.
func TestHeldBack(t *testing.T) {
	w := start(t, decoy.Redirect(443))
	w.Endpoint.Addr = nginx(t, "proxy_request_buffering on;", w.Endpoint.Addr)
	w.Dialer.(*Dialer).patience = 300 * time.Millisecond
	_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	var de *transport.DialError
	if !errors.Is(err, errHeld) || !errors.As(err, &de) || de.Stage != transport.StageDoor {
		t.Errorf("dialling through it gave %v", err)
	}
}

// A wrong proof is answered by the server, whatever that says.
func TestUnproven(t *testing.T) {
	for name, next := range map[string]http.Handler{
		"redirect": decoy.Redirect(443),
		"page": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<!doctype html><title>A site</title>")
		}),
	} {
		w := start(t, next)
		w.Endpoint.Opener = transporttest.Key{Unproven: true}
		_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
		var de *transport.DialError
		if !errors.Is(err, transport.ErrDoor) || !errors.As(err, &de) || de.Stage != transport.StageDoor {
			t.Errorf("%s: a wrong proof gave %v", name, err)
		}
	}
	addr, _ := serve(t, decoy.Redirect(443))
	if _, err := (&Dialer{}).Dial(t.Context(), transport.Endpoint{Addr: addr, Opener: transporttest.Key{}}); !errors.Is(err, errNoGateway) {
		t.Errorf("dialling a server without a door gave %v", err)
	}
}

// An upload ends where it said it would.
func TestUploadEnds(t *testing.T) {
	var out bytes.Buffer
	c := &conn{left: 10}
	c.Conn = &canned{out: &out}
	c.shade, c.unshade = shading([32]byte{1})
	if _, err := c.Write(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte{1}); !errors.Is(err, errUploaded) || out.Len() != 10 {
		t.Errorf("%v, %d bytes were sent", err, out.Len())
	}
}

// A proxy on the way may send the upload in chunks.
func TestChunkedUpload(t *testing.T) {
	w := start(t, decoy.Redirect(443))
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var carried sync.WaitGroup
	defer carried.Wait()
	target := w.Endpoint.Addr
	carried.Go(func() {
		c, err := proxy.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		up, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer up.Close()
		carried.Go(func() { io.Copy(c, up); c.Close() })
		r := bufio.NewReader(c)
		for range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.ContentLength > 0 {
				req.ContentLength = -1
			}
			req.Write(up)
		}
	})
	w.Endpoint.Addr = proxy.Addr().String()
	echo(t, w, 100_000)
}

var changing = regexp.MustCompile(`(?m)^(Set-Cookie: \w+=[0-9a-f]{32}; Path=/; HttpOnly|Date: .*)\r\n`)

// ask sends something and then no more, and returns all that comes.
func ask(t testing.TB, addr string, says []byte) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(waits))
	c.Write(says)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	var reset interface{ Timeout() bool }
	if errors.As(err, &reset) && !reset.Timeout() {
		err = errors.New("reset") // what the kernel's race is about is how much came before
		b = nil
	}
	return fmt.Sprint(changing.ReplaceAllString(string(b), ""), " ", err)
}

// Whatever a stranger says, of whatever length, is answered as by the server without a door.
func TestStrangers(t *testing.T) {
	w := start(t, decoy.Redirect(443))
	plain, _ := serve(t, decoy.Redirect(443))
	random := make([]byte, 8192)
	rand.Read(random)
	upload := []byte("POST / HTTP/1.1\r\nHost: a\r\nCookie: sid=00112233445566778899aabbccddeeff; uid=00112233445566778899aabbccddeeff\r\n" +
		"Content-Length: 1000000000\r\n\r\n")
	upload = append(upload, random...)[:8192]
	get := []byte("GET /" + strings.Repeat("a", 7800) + " HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n" + strings.Repeat("x", 8192))[:8192]
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for name, says := range map[string][]byte{"random": random, "upload": upload, "page": get} {
		step := 11
		if name == "random" && !raceEnabled && !testing.Short() {
			step = 1
		}
		for n := 1; n <= len(says); n += step {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				for try := range 5 { // what a reset swallows is chance
					got, want := ask(t, w.Endpoint.Addr, says[:n]), ask(t, plain, says[:n])
					if got == want {
						return
					}
					if try == 4 {
						t.Errorf("%d bytes of %s are answered with\n%q\ninstead of\n%q", n, name, got, want)
					}
				}
			})
		}
	}
	wg.Wait()
}

// nginx is Debian's, as a proxy with these settings.
func nginx(t testing.TB, settings, upstream string) (addr string) {
	t.Helper()
	path := "/usr/sbin/nginx"
	if found, err := exec.LookPath("nginx"); err == nil {
		path = found
	} else if _, err := os.Stat(path); err != nil {
		t.Skip("nginx is not installed (Debian: nginx-light)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; client_max_body_size 0;
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server {
		listen %[2]s;
		location / { proxy_pass http://%[3]s; proxy_http_version 1.1; proxy_set_header Host $host; %[4]s }
	}
}
`, dir, addr, upstream, settings)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", file, "-e", "stderr")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for until := time.Now().Add(waits); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		} else if time.Now().After(until) {
			t.Fatal("nginx does not listen: ", err)
		}
	}
}

// canned is a connection on which these bytes come.
type canned struct {
	net.Conn
	in  io.Reader
	out io.Writer
}

func (c *canned) Read(b []byte) (int, error)      { return c.in.Read(b) }
func (c *canned) Write(b []byte) (int, error)     { return c.out.Write(b) }
func (c *canned) SetReadDeadline(time.Time) error { return nil }
func (c *canned) Close() error                    { return nil }
