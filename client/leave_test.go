package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/client"
)

// generations runs gateways one after the other on the same socket, as processes that are upgraded do.
type generations struct {
	w      *world
	socket *net.TCPListener
	// listener is the socket as the present one has it.
	listener net.Listener
	present  func(within time.Duration) // drains the one that runs
	ended    chan struct{}              // of the one that drains
}

func newGenerations(t *testing.T, w *world) *generations {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("sockets are not handed over on Windows")
	}
	l, err := net.Listen("tcp", w.dir.Settings.Listen[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &generations{w: w, socket: l.(*net.TCPListener)}
	w.dir.Listen = func(string, string) (net.Listener, error) {
		f, err := g.socket.File()
		if err != nil {
			return nil, err
		}
		defer f.Close()
		g.listener, err = net.FileListener(f)
		return g.listener, err
	}
	g.next(t, 0)
	return g
}

// next starts one more, and drains the one before.
func (g *generations) next(t *testing.T, within time.Duration) {
	t.Helper()
	gw, err := g.w.dir.Service(logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		if err := gw.Run(ctx); err != nil {
			t.Errorf("a gateway ended with %v", err)
		}
		gw.Close()
		close(ended)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	if g.present != nil {
		g.present(within)
	}
	g.present = func(within time.Duration) {
		g.ended = ended
		gw.Drain(within)
	}
}

// echoServer sends back what comes.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

func dial(t *testing.T, c *client.Client, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := c.Dial(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// says checks that the connection's other end answers.
func says(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	b := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Errorf("%s: %v", what, err)
	} else if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello" {
		t.Errorf("%s: %q, %v", what, b, err)
	}
}

func until(t *testing.T, what string, c *client.Client, ok func(client.Status) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(c.Status()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, c.Status())
		}
	}
}

// A gateway is replaced twice while streams are open. They stay with the process they began in, what is new goes to the
// newest, and each old one ends with its last stream.
func TestLeaving(t *testing.T) {
	w := newWorld(t)
	g := newGenerations(t, w)
	echo := echoServer(t)
	c, _ := start(t, client.Config{Key: w.key, StateDir: filepath.Join(t.TempDir(), "state")})
	ready(t, c)
	first := dial(t, c, echo)
	says(t, "before", first)

	g.next(t, time.Hour)
	firstEnded := g.ended
	until(t, "after one", c, func(st client.Status) bool { return len(st.Leaving) == 1 })
	second := dial(t, c, echo)
	says(t, "the first stream, after one", first)
	says(t, "the second stream", second)
	if st := c.Status(); len(st.Leaving) != 1 || st.Leaving[0].Streams != 1 || st.Streams != 1 ||
		time.Until(st.Leaving[0].Until) < 50*time.Minute {
		t.Errorf("status after one: %+v", st)
	}

	g.next(t, time.Hour)
	secondEnded := g.ended
	until(t, "after two", c, func(st client.Status) bool { return len(st.Leaving) == 2 })
	third := dial(t, c, echo)
	for name, conn := range map[string]net.Conn{"first": first, "second": second, "third": third} {
		says(t, "the "+name+" stream, after two", conn)
	}

	first.Close()
	<-firstEnded
	until(t, "after the first stream", c, func(st client.Status) bool { return len(st.Leaving) == 1 })
	says(t, "the second stream, after the first", second)
	second.Close()
	<-secondEnded
	until(t, "after the second stream", c, func(st client.Status) bool { return len(st.Leaving) == 0 })
	says(t, "the third stream", third)
}

// When the time is over the old process ends, and its streams cleanly with it.
func TestLeavingLimit(t *testing.T) {
	w := newWorld(t)
	g := newGenerations(t, w)
	c, _ := start(t, client.Config{Key: w.key, StateDir: filepath.Join(t.TempDir(), "state")})
	ready(t, c)
	conn := dial(t, c, echoServer(t))
	says(t, "before", conn)
	g.next(t, time.Second)
	<-g.ended
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a stream of a process that has ended read %v", err)
	}
	until(t, "afterwards", c, func(st client.Status) bool { return st.State == client.Connected && len(st.Leaving) == 0 })
}

// A client whose next link meets the new process before it has heard of the upgrade is refused there. It keeps its
// streams, and the session that has them beside a new one.
func TestLeavingUnasked(t *testing.T) {
	w := newWorld(t)
	g := newGenerations(t, w)
	c, _ := start(t, client.Config{Key: w.key, StateDir: filepath.Join(t.TempDir(), "state"), Links: 2,
		Transports: []string{"https"}})
	ready(t, c)
	g.listener.Close() // the old process takes no more links, and does not tell
	g.present = nil
	conn := dial(t, c, echoServer(t))
	says(t, "before", conn)
	g.next(t, 0)
	if len(c.Status().Links) > 1 {
		t.Skip("this machine is too slow: the second link came before the upgrade")
	}
	until(t, "afterwards", c, func(st client.Status) bool { return len(st.Leaving) == 1 && st.State == client.Connected })
	says(t, "the stream", conn)
}
