package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

// A scribe is a web site of HTTP/1.1 that notes requests as they were written, and the hello that each came after.
type scribe struct {
	page   string
	config *tls.Config // nil: without TLS
	tcp    net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	heads []string
	of    map[string]*visitors.Conn // by what the request is
}

func newScribe(tcp net.Listener, config *tls.Config, page string) *scribe {
	s := &scribe{page: page, config: config, tcp: tcp, of: make(map[string]*visitors.Conn)}
	s.wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c) })
		}
	})
	return s
}

func (s *scribe) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	rec := &visitors.Conn{}
	if s.config != nil {
		c, rec = visitors.Tee(c)
		c = tls.Server(c, s.config)
	}
	for r := bufio.NewReader(c); ; {
		var head strings.Builder
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
			head.WriteString(line)
		}
		s.mu.Lock()
		kind := kindOf(head.String())
		if s.of[kind] == nil {
			s.heads = append(s.heads, head.String())
			s.of[kind] = rec
		}
		s.mu.Unlock()
		if kind == "upload" {
			if _, err := io.CopyN(io.Discard, r, uploaded); err != nil {
				return
			}
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: sid=1; Path=/; HttpOnly\r\nContent-Length: %d\r\n\r\n%s",
			len(s.page), s.page)
	}
}

const uploaded = 1000

func kindOf(head string) string {
	switch {
	case strings.HasPrefix(head, "POST"):
		return "upload"
	case strings.Contains(head, "Upgrade: websocket"):
		return "WebSocket"
	case strings.HasPrefix(head, "GET / "):
		return "page"
	}
	return "something else"
}

func (s *scribe) has(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[kind] != nil
}

// finish returns what was noted of a kind.
func (s *scribe) finish() (heads map[string]string, of map[string]*visitors.Conn) {
	_ = s.tcp.Close()
	s.wg.Wait()
	heads = make(map[string]string)
	for _, h := range s.heads {
		heads[kindOf(h)] = h
	}
	return heads, s.of
}

// whoever are the parts of a request that are not the browser's habits: which browser on which system it is, and chance.
var whoever = regexp.MustCompile(`(?m)^(User-Agent|sec-ch-ua|sec-ch-ua-platform|Sec-WebSocket-Key|Cookie):.*`)

// TestChromeWeb compares what our client says where it is not a navigation over HTTP/2 (a WebSocket, HTTP/1.1, a script's
// upload) with what Debian's Chromium says: see chrome.ClientHTTP1 and those behind it.
func TestChromeWeb(t *testing.T) {
	needNamespaces(t)
	need(t, "chromium")
	h := newHost(t, "browser")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"},
		SessionTicketsDisabled: true} // or the WebSocket, on a connection of its own, would resume the page's
	const icon = "<link rel=icon href='data:,'>"
	open := func(scheme, data string) (stop func()) {
		cmd := h.command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
			"--host-resolver-rules=MAP "+recorderName+" 127.0.0.1", "--user-data-dir="+filepath.Join(dir, data),
			"--remote-debugging-port=0", scheme+"://"+recorderName+"/")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	visit := func(scheme string, s *scribe, wanted string) (map[string]string, map[string]*visitors.Conn) {
		stop := open(scheme, scheme)
		for until := time.Now().Add(60 * time.Second); !s.has(wanted) && time.Now().Before(until); {
			time.Sleep(50 * time.Millisecond)
		}
		stop()
		if !s.has(wanted) {
			t.Fatalf("Chromium has sent no %s", wanted)
		}
		return s.finish()
	}
	secure, of := visit("https", newScribe(h.listen(t, recorderAddr), config,
		icon+"<script>document.cookie='uid=1';new WebSocket('wss://"+recorderName+"/')</script>"), "WebSocket")
	plain, _ := visit("http", newScribe(h.listen(t, "127.0.0.1:80"), nil, icon+fmt.Sprintf("<script>document.cookie='uid=1';"+
		"fetch('/',{method:'POST',body:new Uint8Array(%d),headers:{'Content-Type':'application/octet-stream'}})</script>", uploaded)), "upload")
	for what, texts := range map[string][2]string{
		"the page over TLS":     {secure["page"], string(chrome.Request(recorderName))},
		"the WebSocket":         {secure["WebSocket"], string(chrome.Upgrade(recorderName, "sid=1; uid=1", "key"))},
		"the page without TLS":  {plain["page"], string(chrome.PlainRequest(recorderName))},
		"an upload without TLS": {plain["upload"], string(chrome.PlainPost(recorderName, "sid=1; uid=1", uploaded))},
	} {
		if theirs, ours := whoever.ReplaceAllString(texts[0], "$1: …"), whoever.ReplaceAllString(texts[1], "$1: …"); theirs != ours {
			t.Errorf("%s: Chromium says\n%s\nand we say\n%s", what, theirs, ours)
		}
	}
	tunnel := make(chan *http2.MetaHeadersFrame, 1)
	l := h.listen(t, recorderAddr)
	go serveTunnel(l, cert, icon+"<script>document.cookie='uid=1';new WebSocket('wss://"+recorderName+"/')</script>", tunnel)
	stop := open("https", "h2")
	select {
	case f := <-tunnel:
		b := chrome.Connect(recorderName, "sid=1; uid=1")
		ours := http2.NewFramer(nil, bytes.NewReader(b))
		ours.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		frame, err := ours.ReadFrame()
		if err != nil {
			t.Error(err)
			break
		}
		if theirs, ours := described(f), described(frame.(*http2.MetaHeadersFrame)); theirs != ours {
			t.Errorf("a WebSocket on HTTP/2: Chromium says\n%s\nand we say\n%s", theirs, ours)
		}
	case <-time.After(60 * time.Second):
		t.Error("Chromium has opened no WebSocket on HTTP/2")
	}
	stop()
	_ = l.Close()
	theirs, err := clienthello.ParseHello(of["WebSocket"].Hello)
	if err != nil {
		t.Fatal(err)
	}
	ours := ourHello(t, chrome.ClientHTTP1)
	if theirs.JA4() != ours.JA4() {
		t.Errorf("a WebSocket's hello is %s of Chromium, and %s of ours", theirs.JA4(), ours.JA4())
	}
	if theirs.JA4() == ourHello(t, chrome.Client).JA4() {
		t.Error("a WebSocket's hello is that of a navigation, so this test sees nothing")
	}
}

// serveTunnel is a web site of HTTP/2 that takes WebSockets (RFC 8441). It tells of the first one.
func serveTunnel(l net.Listener, cert tls.Certificate, page string, tunnel chan<- *http2.MetaHeadersFrame) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
			if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			f := http2.NewFramer(conn, conn)
			f.ReadMetaHeaders = hpack.NewDecoder(65536, nil)
			if f.WriteSettings(http2.Setting{ID: 8, Val: 1}) != nil {
				return
			}
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				switch frame := frame.(type) {
				case *http2.SettingsFrame:
					if !frame.IsAck() {
						_ = f.WriteSettingsAck()
					}
				case *http2.MetaHeadersFrame:
					if frame.PseudoValue("method") == "CONNECT" {
						select {
						case tunnel <- frame:
						default:
						}
						return
					}
					var block bytes.Buffer
					enc := hpack.NewEncoder(&block)
					for _, field := range [][2]string{{":status", "200"}, {"content-type", "text/html"}, {"set-cookie", "sid=1; Path=/; HttpOnly"}} {
						_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
					}
					_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
					_ = f.WriteData(frame.StreamID, true, []byte(page))
				}
			}
		}()
	}
}

// described is a request on HTTP/2, without which browser sent it.
func described(f *http2.MetaHeadersFrame) string {
	var b strings.Builder
	fmt.Fprintf(&b, "stream %d, flags %#x, %+v\n", f.StreamID, f.Flags, f.Priority)
	for _, field := range f.Fields {
		if field.Name == "user-agent" {
			field.Value = "…"
		}
		fmt.Fprintf(&b, "%s: %s\n", field.Name, field.Value)
	}
	return b.String()
}

// ourHello is one of a client of ours.
func ourHello(t *testing.T, client func(net.Conn, *utls.Config) (*utls.UConn, error)) *clienthello.Hello {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _ = b.Close() }()
	read, rec := visitors.Tee(b)
	var shaken sync.WaitGroup
	defer shaken.Wait()
	defer func() { _ = a.Close() }()
	u, err := client(a, &utls.Config{ServerName: recorderName, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	shaken.Go(func() { _ = u.Handshake() })
	for buf := make([]byte, 4096); rec.Hello == nil; {
		if _, err := read.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	hello, err := clienthello.ParseHello(rec.Hello)
	if err != nil {
		t.Fatal(err)
	}
	return hello
}
