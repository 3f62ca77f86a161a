package pipe_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// dialer dials TCP and puts a pipe on it; plain hides that there is a socket.
type dialer struct {
	plain   bool
	tickets tls.ClientSessionCache
}

type plain struct{ net.Conn }

func (d dialer) Transport() string { return "bytes" }

func (d dialer) Dial(ctx context.Context, ep transport.Endpoint) (transport.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", ep.Addr)
	if err != nil {
		return nil, &transport.DialError{Transport: d.Transport(), Stage: transport.StageConnect, Err: err}
	}
	if d.plain {
		c = plain{c}
	}
	return pipe.Resume(ctx, c, d.Transport(), ep, d.tickets)
}

// listener feeds a pipe from TCP, as a transport does.
type listener struct {
	*pipe.Listener
	tcp    net.Listener
	served sync.WaitGroup
}

func (l *listener) Close() error {
	l.tcp.Close()
	return l.Listener.Close()
}

func start(t *testing.T, hide bool, change ...func(*pipe.ListenConfig)) transporttest.World {
	t.Helper()
	key, pin := transporttest.NewKey(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := pipe.ListenConfig{Key: key, Door: transporttest.Lock{}, Addr: tcp.Addr()}
	for _, c := range change {
		c(&cfg)
	}
	inner, err := pipe.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: inner, tcp: tcp}
	l.served.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			if hide {
				c = plain{c}
			}
			l.served.Go(func() { l.Serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		l.served.Wait()
	})
	return transporttest.World{Dialer: dialer{plain: hide}, Listener: l,
		Endpoint: transport.Endpoint{Addr: tcp.Addr().String(), Pins: [][32]byte{pin}, Opener: transporttest.Key{}}}
}

func TestOnSockets(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World { return start(t, false) })
}

func TestOnAnything(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.World { return start(t, true) })
}

// On net.Pipe nothing is buffered: whoever writes waits for the reader.
func TestUnbuffered(t *testing.T) {
	w := start(t, false)
	a, b := net.Pipe()
	var served sync.WaitGroup
	defer served.Wait()
	served.Go(func() { w.Listener.(*listener).Serve(b) })
	accepted := make(chan transport.Conn, 1)
	go func() {
		c, _ := w.Listener.Accept()
		accepted <- c
	}()
	client, err := pipe.Client(t.Context(), a, "bytes", w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, ok := client.(transport.NonBlocking); ok {
		t.Error("net.Pipe does not wait, they say")
	}
	gateway := <-accepted
	defer gateway.Close()
	for _, ends := range [][2]transport.Conn{{client, gateway}, {gateway, client}} {
		want := bytes.Repeat([]byte("words"), 100_000)
		go transport.WriteBatch(ends[0], [][]byte{want[:10], want[10:]})
		got := make([]byte, len(want))
		if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came otherwise, %v", len(got), err)
		}
	}
	client.Close()
	if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after Close gave %v", err)
	}
}

// Whoever does not speak TLS hears nothing, and whoever speaks it otherwise gets nowhere.
func TestStrangers(t *testing.T) {
	w := start(t, false)
	for name, says := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "SSH": "SSH-2.0-x\r\n", "SSL 2": "\x80\x2e\x01\x00\x02" + string(make([]byte, 60)),
		"a record that is none": "\x16\x03\x01\x00\x05hello", "another version": "\x16\x09\x01\x00\x05hello",
	} {
		c, err := net.Dial("tcp", w.Endpoint.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, says)
		if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d bytes came, %v", name, len(b), err)
		}
		c.Close()
	}
	for name, config := range map[string]*tls.Config{
		"X25519": {CurvePreferences: []tls.CurveID{tls.X25519}}, "TLS 1.2": {MaxVersion: tls.VersionTLS12},
	} {
		config.InsecureSkipVerify = true
		if c, err := tls.Dial("tcp", w.Endpoint.Addr, config); err == nil {
			t.Errorf("%s: the handshake succeeds", name)
			c.Close()
		}
	}
}

// A knock's length is bounded before it is read.
func TestLongKnock(t *testing.T) {
	w := start(t, false)
	c, err := tls.Dial("tcp", w.Endpoint.Addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	c.Write([]byte{0xff, 0xff})
	if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came, %v", len(b), err)
	}
}

// That the connection ends on the way to the door is not the door's doing.
func TestCutIsNoRefusal(t *testing.T) {
	w := start(t, false)
	a, b := net.Pipe()
	c, err := net.Dial("tcp", w.Endpoint.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var cut sync.WaitGroup
	defer cut.Wait()
	cut.Go(func() { io.Copy(b, c) })
	cut.Go(func() { io.Copy(c, b) })
	w.Endpoint.Opener = cutting{transporttest.Key{Wrong: true}, func() { c.Close(); cut.Go(func() { io.Copy(io.Discard, b) }) }}
	client, err := pipe.Client(t.Context(), plain{a}, "bytes", w.Endpoint)
	if err == nil {
		b.Close()
		_, err = client.Read(make([]byte, 1))
		client.Close()
	} else {
		b.Close()
	}
	if err == nil || errors.Is(err, transport.ErrDoor) {
		t.Errorf("the client was told %v", err)
	}
}

type cutting struct {
	transporttest.Key
	cut func()
}

func (c cutting) Knock(s transport.Secured) ([]byte, error) {
	c.cut()
	return c.Key.Knock(s)
}

// When the place is full the ones go that came first, and a user comes in.
func TestCrowd(t *testing.T) {
	w := start(t, false)
	var first net.Conn
	for i := range 300 {
		c, err := net.Dial("tcp", w.Endpoint.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i == 0 {
			first = c
		}
	}
	first.SetDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the first stranger was not sent away: %v", err)
	}
	go transporttest.AcceptOne(w.Listener)
	c, err := w.Dialer.Dial(t.Context(), w.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A ticket is used once, resumes over a fresh key exchange, and the link is as good; also at the process that comes after.
func TestResumption(t *testing.T) {
	key, pin := transporttest.NewKey(t)
	same := func(c *pipe.ListenConfig) { c.Key, c.Tickets = key, [32]byte{1} }
	tickets := &counted{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	var w transporttest.World
	for i, resumed := range []bool{false, true, true} {
		w = start(t, false, same)
		w.Endpoint.Pins = [][32]byte{pin}
		accepted := make(chan transport.Conn, 1)
		go func() {
			c, _ := w.Listener.Accept()
			accepted <- c
		}()
		client, err := (dialer{tickets: tickets}).Dial(t.Context(), w.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		gateway := <-accepted
		gateway.Write([]byte("hello"))
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil { // the ticket comes before it
			t.Fatal(err)
		}
		a, _ := client.Export("EXPORTER-x", nil, 32)
		b, _ := gateway.Export("EXPORTER-x", nil, 32)
		if !bytes.Equal(a, b) || client.ServerKey() != gateway.ServerKey() || client.ServerKey() != w.Endpoint.Pins[0] {
			t.Error("the ends do not agree")
		}
		if tickets.given != resumed {
			t.Errorf("connection %d: a ticket was used: %v", i, tickets.given)
		}
		client.Close()
		gateway.Close()
	}
	// With a pin that is not the ticket's gateway's nothing is sent.
	w.Endpoint.Pins = [][32]byte{{1}}
	if _, err := (dialer{tickets: tickets}).Dial(t.Context(), w.Endpoint); !errors.Is(err, transport.ErrPin) {
		t.Errorf("another pin gave %v", err)
	}
}

type counted struct {
	tls.ClientSessionCache
	given bool
}

func (c *counted) Get(key string) (*tls.ClientSessionState, bool) {
	s, ok := c.ClientSessionCache.Get(key)
	c.given = ok && s != nil
	return s, ok
}

func TestDrain(t *testing.T) {
	w := start(t, false)
	l := w.Listener.(*listener)
	c, err := net.Dial("tcp", w.Endpoint.Addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	l.Drain(ctx) // a stranger holds it up
	c.Close()
	l.Drain(t.Context())
	if _, err := w.Dialer.Dial(t.Context(), w.Endpoint); err == nil {
		t.Error("somebody new is taken")
	}
}
