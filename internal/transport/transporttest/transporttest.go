// Package transporttest is the suite that every transport must pass: what package transport promises, tried with real
// connections.
package transporttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// World is one transport with a gateway to reach by it.
type World struct {
	Dialer   transport.Dialer
	Listener transport.Listener
	Endpoint transport.Endpoint // with the right pin, and a Key that opens the Listener's Lock
	Bulk     int                // how many bytes a test carries that carries many; zero is 3 MiB
}

// network is what the transport goes by: pipes have no address of their own.
func (w World) network() string {
	if a := w.Listener.Addr(); a != nil && a.Network() == "udp" {
		return "udp"
	}
	return "tcp"
}

// Run runs the suite. start makes a fresh World and registers its clean-up with t.
func Run(t *testing.T, start func(t *testing.T) World) {
	tests := map[string]func(*testing.T, World){
		"BytesBothWays":      bytesBothWays,
		"Batches":            batches,
		"Exporter":           exporter,
		"WrongPin":           wrongPin,
		"NextPin":            nextPin,
		"NobodyThere":        nobodyThere,
		"ContextEndsDial":    contextEndsDial,
		"CloseUnblocks":      closeUnblocks,
		"NonBlocking":        nonBlocking,
		"Lanes":              lanes,
		"ListenerCloses":     listenerCloses,
		"StrangersDoNotStop": strangersDoNotStop,
		"WrongKnock":         wrongKnock,
		"KnockCrosses":       knockCrosses,
		"BeginsAtOnce":       beginsAtOnce,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// connect makes one connection and returns both ends, without filler.
func connect(t *testing.T, w World) (client, server transport.Conn) {
	t.Helper()
	client, server = connectBare(t, w)
	return &framed{Conn: client}, &framed{Conn: server}
}

func connectBare(t *testing.T, w World) (client, server transport.Conn) {
	t.Helper()
	type result struct {
		c   transport.Conn
		err error
	}
	accepted := make(chan result, 1) // one, so that the goroutine ends whatever happens here
	go func() {
		c, err := w.Listener.Accept()
		accepted <- result{c, err}
	}()
	client, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatalf("dialling: %v", err)
	}
	r := <-accepted
	if r.err != nil {
		t.Fatalf("accepting: %v", r.err)
	}
	t.Cleanup(func() { client.Close(); r.c.Close() })
	return client, r.c
}

func bytesBothWays(t *testing.T, w World) {
	client, server := connect(t, w)
	if w.Bulk == 0 {
		w.Bulk = 3 << 20
	}
	want := make([]byte, w.Bulk)
	rand.Read(want)
	var wg sync.WaitGroup
	for _, c := range []transport.Conn{client, server} {
		wg.Go(func() {
			for b := want; len(b) > 0; {
				n, err := c.Write(b[:min(len(b), 50_000)])
				if err != nil {
					t.Errorf("writing: %v", err)
					return
				}
				b = b[n:]
			}
		})
		wg.Go(func() {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("reading: %v, equal %v", err, bytes.Equal(got, want))
			}
		})
	}
	wg.Wait()
}

func batches(t *testing.T, w World) {
	client, server := connect(t, w)
	parts := [][]byte{[]byte("a"), bytes.Repeat([]byte("b"), 65536), nil, bytes.Repeat([]byte("c"), 100)}
	go transport.WriteBatch(client, parts)
	want := bytes.Join(parts, nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a batch came as %d other bytes, %v", len(got), err)
	}
}

func exporter(t *testing.T, w World) {
	client, server := connect(t, w)
	export := func(c transport.Conn, label string) string {
		b, err := c.Export(label, nil, 32)
		if err != nil || len(b) != 32 {
			t.Fatalf("exporting: %d bytes, %v", len(b), err)
		}
		return string(b)
	}
	if export(client, "EXPORTER-test") != export(server, "EXPORTER-test") {
		t.Error("the two ends export different material")
	}
	if export(client, "EXPORTER-test") == export(client, "EXPORTER-other") {
		t.Error("two labels export the same material")
	}
	if client.ServerKey() != server.ServerKey() || client.ServerKey() != w.Endpoint.Pins[0] {
		t.Error("the ends do not agree on the server's key")
	}
	other, _ := connect(t, w)
	if export(client, "EXPORTER-test") == export(other, "EXPORTER-test") {
		t.Error("two connections export the same material")
	}
}

// AcceptOne accepts a connection and closes it when the far end does.
func AcceptOne(l transport.Listener) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	io.Copy(io.Discard, c)
	c.Close()
}

func wrongPin(t *testing.T, w World) {
	w.Endpoint.Pins = [][32]byte{{1, 2, 3}}
	go AcceptOne(w.Listener)
	_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	var de *transport.DialError
	if !errors.Is(err, transport.ErrPin) || !errors.As(err, &de) || de.Stage != transport.StagePin {
		t.Errorf("dialling a server with another key gave %v", err)
	}
}

func nextPin(t *testing.T, w World) {
	w.Endpoint.Pins = append([][32]byte{{1, 2, 3}}, w.Endpoint.Pins...)
	go AcceptOne(w.Listener)
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatalf("dialling with the right pin in the second place: %v", err)
	}
	c.Close()
}

func nobodyThere(t *testing.T, w World) {
	w.Listener.Close()
	_, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	var de *transport.DialError
	if !errors.As(err, &de) || de.Transport != w.Dialer.Transport() {
		t.Errorf("dialling nobody gave %v", err)
	}
}

func contextEndsDial(t *testing.T, w World) {
	w.Endpoint.Addr = silent(t, w.network())
	if w.Endpoint.Via != nil {
		via := *w.Endpoint.Via
		via.Addr = w.Endpoint.Addr
		w.Endpoint.Via = &via
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := w.Dialer.Dial(ctx, w.Endpoint); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("a dial whose context ended gave %v after %v", err, time.Since(start))
	}
}

// silent is a server that accepts, or receives, and says nothing.
func silent(t *testing.T, network string) (addr string) {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.LocalAddr().String()
	}
	l, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func closeUnblocks(t *testing.T, w World) {
	client, server := connect(t, w)
	got := make(chan error, 1) // the reader must end even if nobody looks
	go func() {
		_, err := client.Read(make([]byte, 1))
		got <- err
	}()
	time.Sleep(10 * time.Millisecond)
	client.Close()
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close gave %v", err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("closing twice gave %v", err)
	}
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Error("the far end read on after Close")
	}
}

// nonBlocking fills a connection whose far end does not read: writing must return, and go on once it does.
func nonBlocking(t *testing.T, w World) {
	client, server := connect(t, w)
	nb, ok := client.(*framed).Conn.(transport.NonBlocking)
	if !ok {
		t.Skip("this transport's writes wait")
	}
	drained := make(chan struct{}, 1) // a backlog is drained once before the next can begin
	nb.OnDrained(func() { drained <- struct{}{} })
	chunk := bytes.Repeat([]byte("x"), 60_000)
	sent := 0
	for !nb.Backlog() {
		if err := transport.WriteBatch(client, [][]byte{chunk}); err != nil {
			t.Fatal(err)
		}
		if sent += len(chunk); sent > 1<<30 {
			t.Fatal("a gigabyte was written and nobody read")
		}
	}
	go func() {
		<-drained
		transport.WriteBatch(client, [][]byte{[]byte("end")})
	}()
	got, err := io.ReadAll(io.LimitReader(server, int64(sent+3)))
	if err != nil || len(got) != sent+3 || string(got[sent:]) != "end" {
		t.Errorf("%d of %d bytes came, %v", len(got), sent+3, err)
	}
}

// lanes sends by several, both ways: each brings its bytes in order, and lane 0 only its own.
func lanes(t *testing.T, w World) {
	client, server := connect(t, w)
	from, ok := client.(*framed).Conn.(transport.Laned)
	if !ok {
		t.Skip("this transport has no lanes")
	}
	to := server.(*framed).Conn.(transport.Laned)
	if _, err := server.Write([]byte("0")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ends := [2]transport.Laned{from, to}
	came := [2]chan string{make(chan string, 2), make(chan string, 2)}
	for i, end := range ends {
		end.OnLane(func(lane io.Reader) {
			b := make([]byte, 4)
			if _, err := io.ReadFull(lane, b); err != nil {
				t.Errorf("reading a lane: %v", err)
			}
			came[i] <- string(b)
		})
	}
	for i, end := range ends {
		bufs := [][]byte{[]byte("a1"), []byte("b1"), appendFrame(nil, kindData, []byte("0")), []byte("a2"), []byte("b2")}
		if err := end.WriteLanes(bufs, []uint32{7, 9, 0, 7, 9}); err != nil {
			t.Fatal(err)
		}
		got := []string{<-came[1-i], <-came[1-i]}
		if slices.Sort(got); got[0] != "a1a2" || got[1] != "b1b2" {
			t.Errorf("two lanes brought %q", got)
		}
		b := make([]byte, 1)
		if _, err := io.ReadFull([]transport.Conn{server, client}[i], b); err != nil || b[0] != '0' {
			t.Errorf("lane 0 brought %q, %v", b, err)
		}
	}
}

func listenerCloses(t *testing.T, w World) {
	got := make(chan error, 1) // see closeUnblocks
	go func() {
		_, err := w.Listener.Accept()
		got <- err
	}()
	time.Sleep(10 * time.Millisecond)
	w.Listener.Close()
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close gave %v", err)
	}
}

// strangersDoNotStop connects and says nothing, or nonsense; users must still get in.
func strangersDoNotStop(t *testing.T, w World) {
	if _, _, err := net.SplitHostPort(w.Endpoint.Addr); err != nil {
		t.Skipf("this transport is at no port: %v", err)
	}
	for i := range 20 {
		c, err := net.Dial(w.network(), w.Endpoint.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if i%2 == 0 {
			c.Write(bytes.Repeat([]byte{byte(i)}, 100))
		}
	}
	connect(t, w)
}

// A wrong knock gets nobody in, and the client is told.
func wrongKnock(t *testing.T, w World) {
	w.Endpoint.Opener = Key{Wrong: true}
	accepted := make(chan bool, 1) // the listener is closed without anybody having looked
	go func() {
		_, err := w.Listener.Accept()
		accepted <- err == nil
	}()
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, transport.ErrDoor) {
		t.Errorf("reading behind a door that did not open gave %v", err)
	}
	w.Listener.Close()
	if <-accepted {
		t.Error("a wrong knock was let in")
	}
}

func knockCrosses(t *testing.T, w World) {
	client, server := connect(t, w)
	if !bytes.Equal(client.Knock(), server.Knock()) || !bytes.HasPrefix(server.Knock(), client.(*framed).key(t)) {
		t.Error("the ends do not agree on the knock")
	}
}

// What the client writes behind its knock arrives although the gateway has not said a word.
func beginsAtOnce(t *testing.T, w World) {
	client, server := connect(t, w)
	client.Write([]byte("early"))
	b := make([]byte, 5)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "early" {
		t.Errorf("read %q, %v", b, err)
	}
}
