package dnsclient

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers questions for A on a connection, as long as it is not told to stop.
type server struct {
	addr  string
	conns atomic.Int32
	read  atomic.Int32 // questions
	mute  atomic.Bool
	once  atomic.Bool // close a connection after one answer
	code  atomic.Int32
}

func (s *server) answer(m *dns.Msg) *dns.Msg {
	a := new(dns.Msg).SetRcode(m, int(s.code.Load()))
	if a.Rcode == 0 {
		rr, _ := dns.NewRR(m.Question[0].Name + " 60 IN A 192.0.2.1")
		a.Answer = []dns.RR{rr}
	}
	return a
}

func newServer(t *testing.T) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			running.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				for d := (&dns.Conn{Conn: c}); ; {
					m, err := d.ReadMsg()
					if err != nil {
						return
					}
					mute := s.mute.Load()
					s.read.Add(1)
					if !mute {
						d.WriteMsg(s.answer(m))
					}
					if s.once.Load() {
						return
					}
				}
			})
		}
	})
	return s
}

func resolver(t *testing.T, s string) Resolver {
	t.Helper()
	r, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ask(c *Client, within time.Duration) (*dnsmessage.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	q, _ := dnsmessage.NewQuestion("a.example", dnsmessage.TypeA)
	return c.Ask(ctx, q)
}

func good(t *testing.T, c *Client) {
	t.Helper()
	if a, err := ask(c, 10*time.Second); err != nil || a.Code != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

// A connection is used again, made anew when the resolver has closed it, and when it has said nothing for long.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := NewClient(Sockets{}, resolver(t, "tcp://"+s.addr))
	defer c.Close()
	good(t, c)
	good(t, c)
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	s.once.Store(true)
	for range 5 {
		good(t, c)
	}
	s.once.Store(false)
	good(t, c)
	before := s.conns.Load()
	s.mute.Store(true)
	if _, err := ask(c, stuck+100*time.Millisecond); err == nil {
		t.Error("answered by nobody")
	}
	s.mute.Store(false)
	good(t, c)
	if n := s.conns.Load(); n != before+1 {
		t.Errorf("%d connections more", n-before)
	}
	c.Close()
	if _, err := ask(c, time.Second); err == nil {
		t.Error("answered after the end")
	}
}

// The next resolver is asked when one says nothing or fails, and is the first from then on.
func TestNextResolver(t *testing.T) {
	t.Parallel()
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	s := newServer(t)
	c := NewClient(Sockets{}, resolver(t, mute.LocalAddr().String()), resolver(t, "tcp://"+s.addr))
	defer c.Close()
	good(t, c)
	start := time.Now()
	good(t, c)
	t.Logf("the second question took %v", time.Since(start))
	if c.first != 1 {
		t.Errorf("number %d is the first", c.first)
	}
	failing := newServer(t)
	failing.code.Store(dns.RcodeServerFailure)
	c = NewClient(Sockets{}, resolver(t, "tcp://"+failing.addr), resolver(t, "tcp://"+s.addr))
	good(t, c)
	c.Close()
	c = NewClient(Sockets{}, resolver(t, "tcp://"+failing.addr))
	defer c.Close()
	if a, err := ask(c, 5*time.Second); err != nil || a.Code != dnsmessage.ServFail {
		t.Errorf("%+v, %v", a, err)
	}
}

// The system's list is looked at again.
func TestListChanges(t *testing.T) {
	t.Parallel()
	a, b := newServer(t), newServer(t)
	list := []Resolver{resolver(t, "tcp://"+a.addr)}
	c := NewClient(Sockets{})
	c.list = func() ([]Resolver, error) { return list, nil }
	defer c.Close()
	good(t, c)
	list = []Resolver{resolver(t, "tcp://"+b.addr)}
	c.mu.Lock()
	c.listed = time.Time{}
	c.mu.Unlock()
	good(t, c)
	if a.conns.Load() != 1 || b.conns.Load() != 1 {
		t.Errorf("%d and %d connections", a.conns.Load(), b.conns.Load())
	}
}

// An old connection gets no more questions, and is closed when all it was asked is answered.
func TestOldConnection(t *testing.T) {
	t.Parallel()
	const age = 20 * time.Millisecond
	s := newServer(t)
	var mu sync.Mutex
	var all []net.Conn
	e := OverStream(func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, conn)
		return conn, err
	}, age)
	defer e.Close()
	q, _ := dnsmessage.NewQuestion("a.example", dnsmessage.TypeA)
	s.mute.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() { Exchange(ctx, e, q) })
	for s.read.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(age)
	s.mute.Store(false)
	if _, err := Exchange(t.Context(), e, q); err != nil || s.conns.Load() != 2 {
		t.Errorf("%d connections, %v", s.conns.Load(), err)
	}
	mu.Lock()
	first := all[0]
	mu.Unlock()
	if _, err := first.Write(nil); err != nil {
		t.Errorf("closed before its last answer: %v", err)
	}
	cancel()
	waiting.Wait()
	if _, err := first.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("not closed after its last answer: %v", err)
	}
}
