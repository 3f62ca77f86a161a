package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// What strangers cost: the gateway's memory, and the patience of those who have an access key.

var (
	flights  = flag.Int("flights", 6000, "how many bogus first flights TestFlood sends")
	halfOpen = flag.Int("half-open", 20000, "how many half-open handshakes TestFlood holds")
)

// mostGrowth is what a flood may add to the gateway's resident memory, in bytes.
const mostGrowth = 16 << 20

func TestFlood(t *testing.T) {
	w := withGateway(t)
	files := uint64(*halfOpen + 1000)
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}) != nil { // root alone may raise it
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
			*halfOpen = min(*halfOpen, int(limit.Max)-100)
			unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max})
		}
	}
	// Some of each kind first: what a web server holds once it has been used is not the flood's doing.
	w.flood(300)
	w.connects("before")
	before := w.resident()

	t.Run("bogus first flights", func(t *testing.T) {
		stop := w.visitors()
		began := time.Now()
		sent := w.flood(*flights)
		took := time.Since(began)
		times := stop()
		t.Logf("%d flights in %v, memory %+.1f MiB, %s", sent, took.Round(time.Second),
			float64(w.resident()-before)/(1<<20), summary(times))
		if grown := w.resident() - before; grown > mostGrowth && !raceEnabled { // the detector has shadows of all memory
			t.Errorf("the gateway has grown by %.1f MiB", float64(grown)/(1<<20))
		}
	})
	t.Run("half-open handshakes", func(t *testing.T) {
		held, err := w.hold(*halfOpen)
		defer func() {
			for _, fd := range held {
				unix.Close(fd)
			}
		}()
		if err != nil {
			t.Fatalf("only %d connections could be opened: %v", len(held), err)
		}
		stop := w.visitors()
		time.Sleep(2 * time.Second) // the flood's time: it sits there
		times := stop()
		grown := w.resident() - before
		t.Logf("%d half-open, memory %+.1f MiB, %s", len(held), float64(grown)/(1<<20),
			summary(times))
		if grown > mostGrowth && !raceEnabled {
			t.Errorf("the gateway has grown by %.1f MiB", float64(grown)/(1<<20))
		}
	})
}

// resident is the gateway's resident memory.
func (w *world) resident() int64 {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.gatewayProcess.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// connects has a client with the access key come up and go, and says how long it took to be up.
func (w *world) connects(name string) time.Duration {
	w.t.Helper()
	dir := filepath.Join(w.dir, "client-"+name)
	up := w.client.command(godwit(w.t), "up", "--state-dir", dir, "--proxy", "127.0.0.1:0", w.key)
	began := time.Now()
	code, out := run(w.t, up)
	took := time.Since(began)
	if code != 0 {
		w.t.Errorf("an honest client's up ended with %d after %v: %s", code, took, out)
	}
	run(w.t, w.client.command(godwit(w.t), "down", "--state-dir", dir))
	return took.Round(time.Millisecond)
}

// visitors has clients come up one after another, the same device each time, until stop, which returns how long each
// took.
func (w *world) visitors() (stop func() []time.Duration) {
	end, done := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var times []time.Duration
		for {
			times = append(times, w.connects("honest"))
			select {
			case <-end:
				done <- times
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	return func() []time.Duration {
		close(end)
		times := <-done
		slices.Sort(times)
		if worst := times[len(times)-1]; worst > 10*time.Second { // an aim of one second, on a machine that is not ours alone
			w.t.Errorf("an honest client took %v to connect", worst)
		}
		return times
	}
}

// summary is of sorted times.
func summary(times []time.Duration) string {
	return fmt.Sprintf("%d honest clients connected in %v at the median, %v at worst", len(times), times[len(times)/2],
		times[len(times)-1])
}

// from is the i-th of many source addresses: 127.0.0.0/8 is the gateway's machine itself, of which each /24 is a stranger's
// network.
func from(i int) [4]byte { return [4]byte{127, byte(1 + i/250%200), byte(i % 250), byte(1 + i/50000)} }

// flood sends n bogus first flights from many places, some at once, and returns how many got as far as being sent.
func (w *world) flood(n int) int64 {
	var sent atomic.Int64
	hello := helloBytes()
	kinds := []func(net.Conn) error{
		func(c net.Conn) error { _, err := c.Write(noise(221)); return err },
		func(c net.Conn) error { _, err := c.Write(hello); return err },
		func(c net.Conn) error { _, err := c.Write(append(bytes.Clone(hello), noise(500)...)); return err },
		func(c net.Conn) error { return knocks(c, noise(480)) },
		func(c net.Conn) error { return knocks(c, nil) },
		func(c net.Conn) error { _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); return err },
	}
	slots := make(chan struct{}, 32) // at once
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			a := from(i)
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: a[:]}, Timeout: 10 * time.Second}
			var c net.Conn
			err := w.gateway.do(func() (err error) {
				c, err = d.Dial("tcp", net.JoinHostPort(gatewayAddr, gatewayPort))
				return err
			})
			if err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if kinds[i%len(kinds)](c) == nil {
				sent.Add(1)
			}
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		})
	}
	wg.Wait()
	return sent.Load()
}

// knocks visits the website over HTTP/2, with a cookie if there is one.
func knocks(c net.Conn, cookie []byte) error {
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := t.Handshake(); err != nil {
		return err
	}
	var flight, block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"}, {Name: "cookie", Value: fmt.Sprintf("s=%x", cookie)}} {
		e.WriteField(f)
	}
	flight.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&flight, nil)
	f.WriteSettings()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	_, err := t.Write(flight.Bytes())
	t.CloseWrite()
	return err
}

// hold opens n connections, sends the half of a hello on each, and keeps them. They are bare descriptors: the test's own
// memory is not in question.
func (w *world) hold(n int) (held []int, err error) {
	hello := helloBytes()
	half := hello[:len(hello)/2]
	to := &unix.SockaddrInet4{Port: 443, Addr: [4]byte(net.ParseIP(gatewayAddr).To4())}
	err = w.gateway.do(func() error {
		for i := range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			held = append(held, fd)
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from(i)}); err != nil {
				return err
			}
			if err := unix.Connect(fd, to); err != nil {
				return err
			}
			if _, err := unix.Write(fd, half); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				return err
			}
		}
		return nil
	})
	return held, err
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// helloBytes is a ClientHello.
func helloBytes() []byte {
	a, b := net.Pipe()
	defer b.Close()
	go tls.Client(a, &tls.Config{ServerName: "x.test", NextProtos: []string{"h2"}}).Handshake()
	buf := make([]byte, 16<<10)
	n, _ := b.Read(buf)
	return buf[:n]
}
