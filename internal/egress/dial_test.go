package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

func TestDialReal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ network, host, name string }{
		{"tcp4", "127.0.0.1", "four.example"}, {"tcp6", "::1", "six.example"},
	} {
		at := serve(t, tt.network, net.JoinHostPort(tt.host, "0"), func(c net.Conn) { _, _ = io.Copy(c, c) })
		s := newSockets(t, Config{Lookup: names{tt.name + ".": {tt.host}}})
		for _, host := range []string{tt.host, tt.name, tt.name + "."} {
			c, err := s.Dial(t.Context(), flow.Target{Host: host, Port: at.Port()})
			if err != nil {
				t.Errorf("%s: %v", host, err)
				continue
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = io.WriteString(c, "hello")
			_ = c.(*net.TCPConn).CloseWrite()
			if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
				t.Errorf("%s: got %q, %v", host, b, err)
			}
			c.Close()
		}
		port := closedPortOf(t, tt.host)
		if _, err := s.Dial(t.Context(), flow.Target{Host: tt.host, Port: port}); flow.CodeOf(err) != flow.CodeRefused {
			t.Errorf("closed port of %s: got %v", tt.host, err)
		}
		if st := s.Stats(); st.Dials != 4 || st.DialsFailed != 1 || st.DialsDenied != 0 {
			t.Errorf("counted %+v", st)
		}
	}
}

// A refusing address costs nothing: the next one is tried at once. Both are real.
func TestDialNextAddress(t *testing.T) {
	t.Parallel()
	at := serve(t, "tcp4", "127.0.0.1:0", func(net.Conn) {})
	s := newSockets(t, Config{Lookup: names{"two.example.": {"127.0.0.2", "127.0.0.3", "127.0.0.1"}}})
	start := time.Now()
	c, err := s.Dial(t.Context(), flow.Target{Host: "two.example", Port: at.Port()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().(*net.TCPAddr).AddrPort() != at || time.Since(start) > dialStagger {
		t.Errorf("connected to %v after %v", c.RemoteAddr(), time.Since(start))
	}
}

// world is a network of addresses that behave as told, in fake time.
type world struct {
	after  map[string]time.Duration // how long until an address answers; absent: never
	errs   map[string]error         // how it fails; absent: it connects
	mu     sync.Mutex
	dialed []string // "address@time"
	closed atomic.Int32
}

type fakeConn struct {
	net.Conn
	w  *world
	to netip.AddrPort
}

func (c *fakeConn) Close() error { c.w.closed.Add(1); return nil }

func (w *world) dial(start time.Time) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		a := to.Addr().String()
		w.mu.Lock()
		w.dialed = append(w.dialed, fmt.Sprintf("%s@%v", a, time.Since(start)))
		w.mu.Unlock()
		d, ok := w.after[a]
		if !ok {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		time.Sleep(d) // and does not care that the race is over
		if err := w.errs[a]; err != nil {
			return nil, &net.OpError{Op: "dial", Err: err}
		}
		return &fakeConn{w: w, to: to}, nil
	}
}

func TestHappyEyeballs(t *testing.T) {
	t.Parallel()
	const a4, b4, c4, a6, b6 = "8.8.8.1", "8.8.8.2", "8.8.8.3", "2600::1", "2600::2"
	const ms = time.Millisecond
	refused, unreach, host := syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.EHOSTUNREACH
	tests := []struct {
		name   string
		addrs  []string
		world  *world
		dialed string
		won    string
		took   time.Duration
		code   flow.Code
		closed int32
	}{
		{name: "first answers", addrs: []string{a6, a4}, world: &world{after: map[string]time.Duration{a6: 100 * ms}},
			dialed: a6 + "@0s", won: a6, took: 100 * ms},
		{name: "first is a black hole", addrs: []string{a6, a4}, world: &world{after: map[string]time.Duration{a4: 50 * ms}},
			dialed: a6 + "@0s " + a4 + "@250ms", won: a4, took: 300 * ms},
		{name: "families take turns", addrs: []string{a6, b6, a4, b4, c4}, world: &world{after: map[string]time.Duration{c4: 1}},
			dialed: a6 + "@0s " + a4 + "@250ms " + b6 + "@500ms " + b4 + "@750ms " + c4 + "@1s", won: c4, took: time.Second + 1},
		{name: "a failure starts the next at once", addrs: []string{a6, a4}, world: &world{
			after: map[string]time.Duration{a6: 10 * ms, a4: 20 * ms}, errs: map[string]error{a6: unreach}},
			dialed: a6 + "@0s " + a4 + "@10ms", won: a4, took: 30 * ms},
		{name: "the first comes late and loses", addrs: []string{a6, a4}, world: &world{
			after: map[string]time.Duration{a6: 400 * ms, a4: 50 * ms}},
			dialed: a6 + "@0s " + a4 + "@250ms", won: a4, took: 300 * ms, closed: 1},
		{name: "the first comes late and wins", addrs: []string{a6, a4}, world: &world{
			after: map[string]time.Duration{a6: 400 * ms, a4: time.Second}},
			dialed: a6 + "@0s " + a4 + "@250ms", won: a6, took: 400 * ms, closed: 1},
		{name: "nobody answers", addrs: []string{a6, a4}, dialed: a6 + "@0s " + a4 + "@250ms", took: 10 * time.Second,
			code: flow.CodeTimeout},
		{name: "refused tells more than silence", addrs: []string{a6, a4}, world: &world{
			after: map[string]time.Duration{a6: 1}, errs: map[string]error{a6: refused}},
			dialed: a6 + "@0s " + a4 + "@1ns", took: 10 * time.Second, code: flow.CodeRefused},
		{name: "refused tells more than no route", addrs: []string{a4, a6}, world: &world{
			after: map[string]time.Duration{a4: 1, a6: 1}, errs: map[string]error{a4: refused, a6: unreach}},
			dialed: a4 + "@0s " + a6 + "@1ns", took: 2, code: flow.CodeRefused},
		{name: "silence tells more than no route", addrs: []string{a6, a4}, world: &world{
			after: map[string]time.Duration{a6: 1, a4: time.Second}, errs: map[string]error{a6: unreach, a4: syscall.ETIMEDOUT}},
			dialed: a6 + "@0s " + a4 + "@1ns", took: time.Second + 1, code: flow.CodeTimeout},
		{name: "host unreachable tells more than no route", addrs: []string{a4, a6}, world: &world{
			after: map[string]time.Duration{a4: 1, a6: 1}, errs: map[string]error{a4: host, a6: unreach}},
			dialed: a4 + "@0s " + a6 + "@1ns", took: 2, code: flow.CodeHostUnreach},
		{name: "no sockets left", addrs: []string{a4, b4}, world: &world{
			after: map[string]time.Duration{a4: 1, b4: 1}, errs: map[string]error{a4: syscall.EMFILE, b4: refused}},
			dialed: a4 + "@0s " + b4 + "@1ns", took: 2, code: flow.CodeBusy},
		{name: "refused ones are not tried", addrs: []string{"10.0.0.1", a4, "::ffff:127.0.0.1", "fe80::1"},
			world: &world{after: map[string]time.Duration{a4: 1}}, dialed: a4 + "@0s", won: a4, took: 1},
		{name: "only refused ones", addrs: []string{"10.0.0.1", "fd00::1"}, code: flow.CodeDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSockets(t, Config{Lookup: names{"x.example.": tt.addrs}, Allow: []netip.Prefix{}})
				w := tt.world
				if w == nil {
					w = new(world)
				}
				start := time.Now()
				s.dialOne = w.dial(start)
				c, err := s.Dial(t.Context(), flow.Target{Host: "x.example", Port: 443})
				if d := time.Since(start); d != tt.took {
					t.Errorf("took %v, want %v", d, tt.took)
				}
				w.mu.Lock()
				got := strings.Join(w.dialed, " ")
				w.mu.Unlock()
				if got != tt.dialed {
					t.Errorf("dialled %q, want %q", got, tt.dialed)
				}
				if tt.won == "" {
					if fe := new(flow.Error); !errors.As(err, &fe) || fe.Code != tt.code || strings.Contains(err.Error(), "8.8") {
						t.Errorf("got %v, want %v", err, tt.code)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if to := c.(*fakeConn).to; to.Addr().String() != tt.won || to.Port() != 443 {
					t.Errorf("%v won, want %v", to, tt.won)
				}
				_ = s.Close() // waits for the losers
				if n := w.closed.Load(); n != tt.closed {
					t.Errorf("%d closed, want %d", n, tt.closed)
				}
			})
		})
	}
}

func TestInterleave(t *testing.T) {
	t.Parallel()
	var in []netip.Addr
	for i := range 20 {
		in = append(in, netip.AddrFrom4([4]byte{8, 8, 8, byte(i)}))
	}
	in = append(in, netip.MustParseAddr("2600::1"))
	out := interleave(in, 16)
	want := slices.Concat(in[:1], in[20:], in[1:15])
	if !slices.Equal(out, want) {
		t.Errorf("got %v, want %v", out, want)
	}
}

func TestDialEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSockets(t, Config{Lookup: names{"x.example.": {"8.8.8.8"}}})
		s.dialOne = new(world).dial(time.Now())
		to := flow.Target{Host: "x.example", Port: 443}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := s.Dial(ctx, to); flow.CodeOf(err) != flow.CodeTimeout || time.Since(start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { s.Close() })
		start = time.Now()
		if _, err := s.Dial(t.Context(), to); flow.CodeOf(err) != flow.CodeLocalShutdown || time.Since(start) != time.Second {
			t.Errorf("closed meanwhile: got %v after %v", err, time.Since(start))
		}
		if _, err := s.Dial(t.Context(), to); flow.CodeOf(err) != flow.CodeLocalShutdown {
			t.Errorf("closed before: got %v", err)
		}
	})
}

// A name that turns to the gateway's inside between two lookups is refused by what it is at the second, and the
// socket's own hook refuses what comes past everything else.
func TestRebinding(t *testing.T) {
	t.Parallel()
	var dialed []netip.AddrPort
	turn := 0
	s := newSockets(t, Config{Allow: []netip.Prefix{}, Lookup: lookupFunc(
		func(context.Context, string, string) ([]netip.Addr, error) {
			turn++
			if turn == 1 {
				return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1")}, nil
		})})
	s.dialOne = func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
		dialed = append(dialed, to)
		return nil, syscall.ECONNREFUSED
	}
	to := flow.Target{Host: "rebind.example", Port: 80}
	if _, err := s.Dial(t.Context(), to); flow.CodeOf(err) != flow.CodeRefused {
		t.Errorf("first: got %v", err)
	}
	if _, err := s.Dial(t.Context(), to); flow.CodeOf(err) != flow.CodeRefused || turn != 1 {
		t.Errorf("within the minute: got %v after %d lookups", err, turn)
	}
	s.resolver.cache.Forget() // the minute is over
	if _, err := s.Dial(t.Context(), to); flow.CodeOf(err) != flow.CodeDenied || turn != 2 {
		t.Errorf("turned: got %v after %d lookups", err, turn)
	}
	for _, ap := range dialed {
		if ap.Addr() != netip.MustParseAddr("8.8.8.8") {
			t.Errorf("dialled %v", ap)
		}
	}
}

func TestControlHook(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int32
	at := serve(t, "tcp4", "127.0.0.1:0", func(net.Conn) { accepted.Add(1) })
	s := newSockets(t, Config{Allow: []netip.Prefix{}})
	for _, to := range []netip.AddrPort{at, netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), at.Port())} {
		c, err := s.connect(t.Context(), to)
		if flow.CodeOf(err) != flow.CodeDenied {
			t.Errorf("%v: got %v", to, err)
		}
		if c != nil {
			c.Close()
		}
	}
	for _, to := range []string{"127.0.0.1:80", "[::1]:80", "8.8.8.8:25", "[fe80::1%lo]:80", "not an address"} {
		if err := s.control(t.Context(), "tcp", to, nil); err == nil {
			t.Errorf("%s: not refused", to)
		}
	}
	if err := s.control(t.Context(), "tcp4", "8.8.8.8:80", nil); err != nil {
		t.Errorf("the world: %v", err)
	}
	open := newSockets(t, Config{})
	c, err := open.connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for deadline := time.Now().Add(5 * time.Second); accepted.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if n := accepted.Load(); n != 1 { // they come in order: the refused ones would have been first
		t.Errorf("%d connections were made", n)
	}
	// Its own listener is refused however it is spelled.
	own := newSockets(t, Config{Own: []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())}})
	if _, err := own.Dial(t.Context(), flow.Target{Host: "127.0.0.1", Port: at.Port()}); flow.CodeOf(err) != flow.CodeDenied {
		t.Errorf("own listener: got %v", err)
	}
}

func TestDialRefused(t *testing.T) {
	t.Parallel()
	known := names{"localhost.": {"127.0.0.1", "::1"}, "metadata.example.": {"169.254.169.254"}, "mail.example.": {"8.8.8.8"},
		"six.example.": {"2600::1"}}
	tests := []struct {
		host string
		port uint16
		want flow.Code
	}{
		{"localhost", 80, flow.CodeDenied}, {"localhost.", 80, flow.CodeDenied}, {"LOCALHOST", 80, flow.CodeDenied},
		{"metadata.example", 80, flow.CodeDenied}, {"metadata.example.", 80, flow.CodeDenied},
		{"127.0.0.1", 80, flow.CodeDenied}, {"[::1]", 80, flow.CodeDenied}, {"::ffff:169.254.169.254", 80, flow.CodeDenied},
		{"127.1", 80, flow.CodeNameNotFound}, {"2130706433", 80, flow.CodeNameNotFound}, {"0", 80, flow.CodeNameNotFound},
		{"mail.example", 25, flow.CodeDenied}, {"8.8.8.8", 25, flow.CodeDenied}, {"mail.example", 0, flow.CodeBadTarget},
		{"fe80::1%eth0", 80, flow.CodeBadTarget}, {"", 80, flow.CodeBadTarget}, {"nowhere.example", 80, flow.CodeNameNotFound},
		{"2600::1", 80, flow.CodeNetUnreach}, {"six.example", 80, flow.CodeNameNotFound},
	}
	var log bytes.Buffer
	s := newSockets(t, Config{Lookup: known, Families: flow.IPv4, Allow: []netip.Prefix{},
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 100}))})
	s.dialOne = func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
		t.Errorf("dialled %v", to)
		return nil, syscall.ECONNREFUSED
	}
	for _, tt := range tests {
		c, err := s.Dial(t.Context(), flow.Target{Host: tt.host, Port: tt.port})
		if fe := new(flow.Error); c != nil || !errors.As(err, &fe) || fe.Code != tt.want {
			t.Errorf("%s:%d: got %v, want %v", tt.host, tt.port, err, tt.want)
		}
	}
	if log.Len() != 0 {
		t.Errorf("logged %s", &log)
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	from := make(chan string, 2)
	note := func(c net.Conn) { from <- c.RemoteAddr().(*net.TCPAddr).IP.String() }
	at := serve(t, "tcp4", "127.0.0.1:0", note)
	s := newSockets(t, Config{Source4: netip.MustParseAddr("127.0.0.77"), Source6: netip.MustParseAddr("::1")})
	c, err := s.Dial(t.Context(), flow.Target{Host: "127.0.0.1", Port: at.Port()})
	if err != nil {
		t.Skip("only Linux has all of 127.0.0.0/8: ", err)
	}
	defer c.Close()
	if got := <-from; got != "127.0.0.77" {
		t.Errorf("connected from %s", got)
	}
}

func TestFamiliesReal(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Skip(err)
	}
	mine := func(a netip.Addr) bool {
		return slices.ContainsFunc(list, func(n net.Addr) bool {
			ip, ok := n.(*net.IPNet)
			return ok && ip.IP.Equal(a.AsSlice())
		})
	}
	v4, v6 := s.ExitAddrs()
	f := s.Families()
	for _, tt := range []struct {
		family flow.Families
		exit   netip.Addr
	}{{flow.IPv4, v4}, {flow.IPv6, v6}} {
		if f.Has(tt.family) && !mine(tt.exit) {
			t.Errorf("family %d leaves from %v, which is not here", tt.family, tt.exit)
		}
		if !tt.exit.IsValid() && f.Has(tt.family) {
			t.Errorf("family %d is reachable from nowhere", tt.family)
		}
	}
	if f.Has(flow.IPv6) && !global6.Contains(v6) {
		t.Errorf("IPv6 is reachable from %v", v6)
	}
	first := s.routes.Load()
	s.Families()
	if s.routes.Load() != first {
		t.Error("looked again within the minute")
	}
	old := *first
	old.at = old.at.Add(-routesAge)
	s.routes.Store(&old)
	s.Families()
	if s.routes.Load() == &old {
		t.Error("did not look again after a minute")
	}
	nowhere, err := New(Config{Source4: netip.MustParseAddr("203.0.113.77"), Source6: netip.MustParseAddr("2001:db8::77")})
	if err != nil {
		t.Fatal(err)
	}
	defer nowhere.Close()
	if f := nowhere.Families(); f != 0 {
		t.Errorf("families %d from addresses that are not here", f)
	}
	if !s.UDP() {
		t.Error("no UDP")
	}
}
