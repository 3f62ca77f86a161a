package https_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// These tests abuse HTTP/2 in the ways that have brought servers down, and count what that costs the gateway and what a
// server of net/http and x/net/http2 alone. Each server is a process of its own: this test's binary, run again.

var abuseTime = flag.Duration("abuse", 250*time.Millisecond, "how long each abuse of each server lasts")

const envServer = "GODWIT_HTTPS_TEST_SERVER" // gateway or plain: this process is that server

// TestServer is the server, in its own process. It answers each line of its input with a line of figures.
func TestServer(t *testing.T) {
	kind := os.Getenv(envServer)
	if kind == "" {
		return
	}
	cert, _ := certificate(t)
	var w transporttest.World
	if kind == "gateway" {
		w = startWith(t, cert)
	} else {
		w = plain(t, cert)
	}
	var peak atomic.Uint64
	go func() {
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse+m.StackInuse))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	fmt.Println("address", w.Endpoint.Addr)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var m runtime.MemStats
		for range 2 { // what a pool keeps goes with the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		var u syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		fmt.Println("figures", u.Utime.Nano()+u.Stime.Nano(), peak.Swap(0), m.HeapAlloc+m.StackInuse)
	}
	os.Exit(0) // without looking for goroutines that a stranger keeps
}

// process is a server in its own process.
type process struct {
	addr string
	in   io.Writer
	out  *bufio.Scanner
}

type figures struct {
	cpu        time.Duration
	peak, live uint64 // bytes: at most since the last time, and what is in use for good reason
}

func serve(t *testing.T, kind string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServer$", "-test.v")
	cmd.Env = append(os.Environ(), envServer+"="+kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	p := &process{in: in, out: bufio.NewScanner(out)}
	if _, err := fmt.Sscanf(p.line("address"), "%s", &p.addr); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) line(word string) string {
	for p.out.Scan() {
		if rest, ok := strings.CutPrefix(p.out.Text(), word+" "); ok {
			return rest
		}
	}
	return ""
}

func (p *process) figures(t *testing.T) (f figures) {
	t.Helper()
	fmt.Fprintln(p.in)
	if _, err := fmt.Sscan(p.line("figures"), &f.cpu, &f.peak, &f.live); err != nil {
		t.Fatal("the server is gone: ", err)
	}
	return f
}

// An abuse is what a stranger sends on one connection.
type abuse struct {
	name  string
	first []byte // behind preface and SETTINGS
	// more is what is sent again and again, with the next stream's number; nil waits for the answer and dials again.
	more func(stream uint32) []byte
}

// literal is a header field that goes into the dynamic table (RFC 7541 §6.2.1); indexed is the newest one there.
func literal(name, value string) []byte {
	b := []byte{0x40}
	for _, s := range []string{name, value} {
		if n := len(s); n < 127 {
			b = append(b, byte(n))
		} else {
			b = binary.AppendUvarint(append(b, 127), uint64(n-127))
		}
		b = append(b, s...)
	}
	return b
}

const indexed = "\xbe"

func setting(id http2.SettingID, value uint32) []byte {
	return frame(http2.FrameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, byte(id)}, value))
}

func windowUpdate(stream, n uint32) []byte {
	return frame(http2.FrameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, n))
}

// request2 is a request whose header block ends in more.
func request2(stream uint32, flags http2.Flags, method string, more ...byte) []byte {
	return frame(http2.FrameHeaders, flags, stream, append(headers(":method", method, ":scheme", "https",
		":authority", "site.example", ":path", "/"), more...))
}

const wholeRequest = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream

// abuses come from CVE-2023-44487, CVE-2023-45288, CVE-2019-9512, -9515 and -9518, and Go's fixes of October 2026.
var abuses = []abuse{
	{"rapid reset", nil, func(stream uint32) []byte {
		return append(get2(stream), frame(http2.FrameRSTStream, 0, stream, []byte{0, 0, 0, 8})...)
	}},
	{"CONTINUATION without end", request2(1, 0, "GET"), func(uint32) []byte {
		return frame(http2.FrameContinuation, 0, 1, literal("x-filler", strings.Repeat("a", 4000)))
	}},
	{"SETTINGS, table sizes", nil, func(stream uint32) []byte {
		return append(setting(http2.SettingHeaderTableSize, 0), setting(http2.SettingHeaderTableSize, 1<<16)...)
	}},
	{"PING", nil, func(uint32) []byte { return frame(http2.FramePing, 0, 0, make([]byte, 8)) }},
	{"trailers", nil, func(stream uint32) []byte {
		trailer := bytes.Repeat([]byte("\x00\x03x-a\x01b"), 1500)
		return slices.Concat(request2(stream, http2.FlagHeadersEndHeaders, "POST"),
			frame(http2.FrameData, 0, stream, []byte{0}), frame(http2.FrameHeaders, wholeRequest, stream, trailer))
	}},
	{"windows", func() []byte {
		b := setting(http2.SettingInitialWindowSize, 0)
		for s := uint32(1); s < 200; s += 2 {
			b = append(b, get2(s)...)
		}
		return b
	}(), func(stream uint32) []byte {
		return slices.Concat(setting(http2.SettingInitialWindowSize, 1), setting(http2.SettingInitialWindowSize, 0),
			windowUpdate(0, 1), windowUpdate(1+stream%200/2*2, 1))
	}},
	{"HPACK bombs", nil, func(stream uint32) []byte {
		bomb := append(literal("x-filler", strings.Repeat("a", 3900)), strings.Repeat(indexed, 250)...)
		return request2(stream, wholeRequest, "GET", bomb...)
	}},
	// What the watch for knocks looks into.
	{"first requests, long", request2(1, wholeRequest, "GET", literal("cookie", "session="+strings.Repeat("a", 1900))...), nil},
	{"first requests, bombs of cookies", request2(1, wholeRequest, "GET",
		append(literal("cookie", strings.Repeat("; ", 450)), strings.Repeat(indexed, 1000)...)...), nil},
}

// attack does it on a few connections at once. It returns how many bytes were sent, or how many requests were answered if
// that is what it is about.
func (a abuse) attack(addr string, lasts time.Duration) int64 {
	until := time.Now().Add(lasts)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for time.Now().Before(until) {
				sent.Add(a.once(addr, until))
			}
		})
	}
	wg.Wait()
	return sent.Load()
}

func (a abuse) once(addr string, until time.Time) (sent int64) {
	d := &net.Dialer{Deadline: until.Add(time.Second)}
	c, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetDeadline(until)
	first := slices.Concat(preface, settings, a.first)
	if a.more == nil {
		c.Write(first)
		for f := http2.NewFramer(nil, c); ; {
			if got, err := f.ReadFrame(); err != nil {
				return 0
			} else if got.Header().StreamID == 1 {
				return 1
			}
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.NetConn().Close()
	wg.Go(func() { io.Copy(io.Discard, c) })
	_, err = c.Write(first)
	for stream := uint32(201); err == nil; {
		var b []byte
		for len(b) < 16<<10 {
			b = append(b, a.more(stream)...)
			stream += 2
		}
		_, err = c.Write(b)
		sent += int64(len(b))
	}
	return sent
}

// honest asks for the page on a connection of its own, and returns how long that took.
func honest(addr string) (time.Duration, error) {
	began := time.Now()
	browser := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer browser.CloseIdleConnections()
	resp, err := (&http.Client{Transport: browser, Timeout: patience}).Get("https://" + addr + "/")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || !bytes.Contains(b, []byte("A site")) {
		return 0, fmt.Errorf("%s, %d bytes, %v", resp.Status, len(b), err)
	}
	return time.Since(began), nil
}

// cost is what an abuse cost a server.
type cost struct {
	figures
	sent    int64         // bytes, or answered requests
	slowest time.Duration // honest request meanwhile
}

func (c cost) of(a abuse) string {
	ms, each, of := c.cpu.Seconds()*1e3, "MB", float64(c.sent)/1e6
	if a.more == nil {
		each, of = "connection", float64(c.sent)
	}
	return fmt.Sprintf("%6.0f ms of CPU, %6.2f per %s of %.1f; at most %5.1f MiB; honest requests %v at most", ms, ms/of, each, of,
		float64(c.peak)/(1<<20), c.slowest.Round(time.Millisecond))
}

func (p *process) suffer(t *testing.T, a abuse) (c cost) {
	t.Helper()
	before := p.figures(t)
	done := make(chan int64)
	go func() { done <- a.attack(p.addr, *abuseTime) }()
	for under := true; under; {
		select {
		case c.sent = <-done:
			under = false // and once more, after it
		case <-time.After(*abuseTime / 4):
		}
		took, err := honest(p.addr)
		if err != nil {
			t.Errorf("%s: an honest request: %v", a.name, err)
		}
		c.slowest = max(c.slowest, took)
	}
	c.figures = p.figures(t)
	c.cpu -= before.cpu
	return c
}

func TestAbuse(t *testing.T) {
	ours, plain := serve(t, "gateway"), serve(t, "plain")
	for _, a := range abuses {
		theirs, mine := plain.suffer(t, a), ours.suffer(t, a)
		t.Logf("%s\n\tgateway %s\n\tplain   %s", a.name, mine.of(a), theirs.of(a))
		if mine.peak > 2*theirs.peak+8<<20 {
			t.Errorf("%s: the gateway took %d KiB, the plain server %d", a.name, mine.peak>>10, theirs.peak>>10)
		}
	}
}

// strangers are as many as a gateway has room for, from as many places.
const strangers = 300

// A stranger costs at most this more than at the plain server, before the door.
const mostMore = 4 << 10

func TestStrangersCost(t *testing.T) {
	block := append(headers(":method", "GET", ":scheme", "https", ":authority", "site.example", ":path", "/"),
		literal("cookie", strings.Repeat("a", 1950))...)
	if len(block) > 2<<10 {
		t.Fatalf("a header block of %d bytes is not looked into", len(block))
	}
	long := frame(http2.FrameHeaders, wholeRequest, 1, block)
	for name, says := range map[string][]byte{
		"behind SETTINGS":                 slices.Concat(preface, settings),
		"behind a page":                   slices.Concat(preface, settings, get2(1)),
		"in the middle of a header block": slices.Concat(preface, settings, long[:len(long)-10]),
	} {
		t.Run(name, func(t *testing.T) {
			for try := range 3 { // stacks grow and shrink as the collector likes
				theirs, mine := hold(t, "plain", says), hold(t, "gateway", says)
				t.Logf("%d bytes at the gateway, %d at the plain server: %d more", mine, theirs, mine-theirs)
				if mine-theirs <= mostMore {
					return
				}
				if try == 2 {
					t.Errorf("a stranger costs %d bytes more than at the plain server", mine-theirs)
				}
			}
		})
	}
}

// hold is what each stranger costs a server that says this and then nothing.
func hold(t *testing.T, kind string, says []byte) int64 {
	t.Helper()
	p := serve(t, kind)
	before := p.figures(t).live
	held := make([]*tls.Conn, strangers)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range held {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i), 1)}}
			if i > 255 {
				d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 2, byte(i), 1)}
			}
			c, err := tls.DialWithDialer(d, "tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(patience))
			c.Write(says)
			if _, err := c.Read(make([]byte, 1)); err != nil { // it listens
				t.Error(err)
			}
			held[i] = c
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	time.Sleep(aWhile)
	each := (int64(p.figures(t).live) - int64(before)) / strangers
	for i, c := range held { // they are still there
		c.SetDeadline(time.Now().Add(time.Millisecond))
		if _, err := io.Copy(io.Discard, c); ending(err) != "open" {
			t.Fatalf("stranger %d was sent away: %v", i, err)
		}
	}
	return each
}
