package session_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
)

// joined is a session with one stream, joined to real sockets at both ends.
type joined struct {
	w          *tlsWorld
	app        *net.TCPConn // the application's end
	site       *net.TCPConn // the destination's end
	clientDone chan error
	siteDone   chan error
}

func join(t *testing.T) *joined {
	t.Helper()
	site, dialled := tcpPair(t)
	j := &joined{site: site, clientDone: make(chan error, 1), siteDone: make(chan error, 1)} // for goroutines nobody may wait for
	j.w = newTLSWorld(t, func(st *session.Stream, _ flow.Target) {
		st.Answer(nil)
		j.siteDone <- st.Join(dialled)
	})
	if _, err := j.w.attach(j.w.endpoint.Addr); err != nil {
		t.Fatal(err)
	}
	st, err := j.w.client.Open(t.Context(), flow.Target{Host: "x.example", Port: 443}, false)
	if err != nil {
		t.Fatal(err)
	}
	app, local := tcpPair(t)
	j.app = app
	go func() { j.clientDone <- st.Join(local) }()
	for _, c := range []*net.TCPConn{app, site} {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return j
}

func (j *joined) wait(t *testing.T) (client, site error) {
	t.Helper()
	for range 2 {
		select {
		case client = <-j.clientDone:
		case site = <-j.siteDone:
		case <-time.After(10 * time.Second):
			t.Fatal("a Join does not return")
		}
	}
	return client, site
}

// An end that comes before Join is passed on all the same.
func TestJoinAfterEnd(t *testing.T) {
	site, dialled := tcpPair(t)
	done := make(chan error, 1) // for a goroutine nobody may wait for
	w := newTLSWorld(t, func(st *session.Stream, _ flow.Target) {
		st.Answer(nil)
		if n, err := st.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d bytes, %v", n, err)
		}
		done <- st.Join(dialled)
	})
	if _, err := w.attach(w.endpoint.Addr); err != nil {
		t.Fatal(err)
	}
	st, err := w.client.Open(t.Context(), flow.Target{Host: "x.example", Port: 443}, false)
	if err != nil {
		t.Fatal(err)
	}
	st.CloseWrite()
	site.SetDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(site); err != nil || len(got) > 0 {
		t.Fatalf("the site read %q, %v", got, err)
	}
	site.Write([]byte("answer"))
	site.Close()
	if got, err := io.ReadAll(st); err != nil || string(got) != "answer" {
		t.Errorf("the application read %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Join: %v", err)
	}
}

// Each direction ends by itself, as TCP's do.
func TestJoinHalfClose(t *testing.T) {
	j := join(t)
	j.app.Write([]byte("request"))
	j.app.CloseWrite()
	got, err := io.ReadAll(j.site)
	if err != nil || string(got) != "request" {
		t.Fatalf("the site read %q, %v", got, err)
	}
	answer := bytes.Repeat([]byte("answer"), 100_000)
	go func() {
		j.site.Write(answer)
		j.site.CloseWrite()
	}()
	got, err = io.ReadAll(j.app)
	if err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("the application read %d of %d bytes, %v", len(got), len(answer), err)
	}
	if c, s := j.wait(t); c != nil || s != nil {
		t.Errorf("Join returned %v and %v", c, s)
	}
}

// A reset at either end is a reset at the other.
func TestJoinReset(t *testing.T) {
	for name, ends := range map[string]func(*joined) (from, to *net.TCPConn){
		"from the site":        func(j *joined) (from, to *net.TCPConn) { return j.site, j.app },
		"from the application": func(j *joined) (from, to *net.TCPConn) { return j.app, j.site },
	} {
		t.Run(name, func(t *testing.T) {
			j := join(t)
			from, to := ends(j)
			from.Write([]byte("x"))
			if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			from.SetLinger(0)
			from.Close()
			if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other end read %v, want a reset", err)
			}
			if c, s := j.wait(t); c == nil || s == nil {
				t.Errorf("Join returned %v and %v", c, s)
			}
		})
	}
}

// A reader that stops reading stops the writer at the other end, and starts it again.
func TestJoinBackpressure(t *testing.T) {
	j := join(t)
	const total = 64 << 20
	sent := make(chan int, 1) // read once, at the end
	go func() {
		n := 0
		buf := make([]byte, 64<<10)
		for n < total {
			m, err := j.site.Write(buf)
			n += m
			if err != nil {
				break
			}
		}
		j.site.CloseWrite()
		sent <- n
	}()
	time.Sleep(500 * time.Millisecond)
	if held := j.w.pool.Used(); held > session.MaxSessionMemory {
		t.Errorf("%d bytes are held for a reader that does not read", held)
	}
	select {
	case n := <-sent:
		t.Errorf("%d bytes were taken though nobody reads", n)
		return
	default:
	}
	n, err := io.Copy(io.Discard, j.app)
	if err != nil || n != total || <-sent != total {
		t.Errorf("%d of %d bytes came, %v", n, total, err)
	}
	j.app.CloseWrite()
	j.wait(t)
}

// The end of the session resets the application's connection rather than ending it as if all had come.
func TestJoinSessionEnds(t *testing.T) {
	j := join(t)
	j.site.Write([]byte("half of"))
	if _, err := io.ReadFull(j.app, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	j.w.gateway.Close(flow.CodeSessionLost)
	if _, err := j.app.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the application read %v, want a reset", err)
	}
	j.wait(t)
}

// A connection without a descriptor is carried too.
func TestJoinPlainConn(t *testing.T) {
	w := newTLSWorld(t, func(st *session.Stream, _ flow.Target) {
		st.Answer(nil)
		io.Copy(st, st)
		st.CloseWrite()
	})
	if _, err := w.attach(w.endpoint.Addr); err != nil {
		t.Fatal(err)
	}
	st, err := w.client.Open(t.Context(), flow.Target{Host: "x.example", Port: 443}, false)
	if err != nil {
		t.Fatal(err)
	}
	app, local := net.Pipe()
	done := make(chan error, 1) // see join
	go func() { done <- st.Join(local) }()
	want := bytes.Repeat([]byte("plain"), 50_000)
	go app.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(app, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("reading back: %v", err)
	}
	app.Close()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("Join does not return")
	}
}
