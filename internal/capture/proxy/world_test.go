package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// world is a flow.Outside over this machine's own sockets. Names exist only in hosts; all else is real.
type world struct {
	hosts map[string]string        // name to address
	fail  map[string]flow.Code     // host to why it cannot be opened or looked up
	slow  map[string]chan struct{} // host to what its opening or lookup waits for
	// low is where ports below 1024 are, which tests may not listen on.
	low netip.AddrPort

	anyPorts bool // packet ports are net.PacketConns and no more

	mu     sync.Mutex
	opened []opened
	looked []string
	ports  int // packet ports asked for
	live   int // streams not yet closed
}

type opened struct {
	target flow.Target
	early  bool
}

func newWorld() *world {
	return &world{
		hosts: map[string]string{"site.example": "127.0.0.1", "six.example": "::1"},
		fail:  map[string]flow.Code{}, slow: map[string]chan struct{}{},
	}
}

func (w *world) Open(ctx context.Context, t flow.Target, early bool) (flow.Stream, error) {
	w.mu.Lock()
	w.opened = append(w.opened, opened{t, early})
	w.mu.Unlock()
	st := &stream{world: w, ready: make(chan struct{})}
	if early {
		w.count(+1)
		go func() {
			st.dialed(w.dial(context.WithoutCancel(ctx), t))
		}()
		return st, nil
	}
	tcp, err := w.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	w.count(+1)
	st.dialed(tcp, nil)
	return st, nil
}

func (w *world) dial(ctx context.Context, t flow.Target) (*net.TCPConn, error) {
	addrs, err := w.find(ctx, t.Host)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	to := netip.AddrPortFrom(addrs[0], t.Port)
	if w.low.IsValid() && t.Port < 1024 {
		to = w.low
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, flow.Errorf(flow.CodeOf(err), "%s", err)
	}
	return c.(*net.TCPConn), nil
}

func (w *world) find(ctx context.Context, host string) ([]netip.Addr, error) {
	if wait, ok := w.slow[host]; ok {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if code, ok := w.fail[host]; ok {
		return nil, flow.Errorf(code, "secret detail about %s", host)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	a, ok := w.hosts[host]
	if !ok {
		return nil, flow.Errorf(flow.CodeNameNotFound, "no such name %q", host)
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

func (w *world) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	w.mu.Lock()
	w.looked = append(w.looked, name)
	w.mu.Unlock()
	return w.find(ctx, name)
}

func (w *world) ListenPacket(context.Context) (net.PacketConn, error) {
	w.mu.Lock()
	w.ports++
	w.mu.Unlock()
	if code, ok := w.fail["udp"]; ok {
		return nil, flow.Errorf(code, "no packets")
	}
	pc, err := net.ListenUDP("udp", nil) // both families
	if w.anyPorts && err == nil {
		return struct{ net.PacketConn }{pc}, nil
	}
	return pc, err
}

func (w *world) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live += n
}

func (w *world) lastOpened(t *testing.T) opened {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.opened) == 0 {
		t.Fatal("nothing was opened")
	}
	return w.opened[len(w.opened)-1]
}

// stream is a flow.Stream over a TCP connection that may not be there yet.
type stream struct {
	world *world
	ready chan struct{} // closed when tcp or err is set
	once  sync.Once     // for ready
	tcp   *net.TCPConn
	err   error
	done  sync.Once
}

func (s *stream) dialed(tcp *net.TCPConn, err error) {
	late := true
	s.once.Do(func() {
		late = false
		s.tcp, s.err = tcp, err
		close(s.ready)
	})
	if late && tcp != nil {
		reset(tcp)
	}
}

// wait returns the connection once there is one.
func (s *stream) wait() (*net.TCPConn, error) {
	<-s.ready
	return s.tcp, s.err
}

func (s *stream) Read(p []byte) (int, error) {
	tcp, err := s.wait()
	if err != nil {
		return 0, err
	}
	return tcp.Read(p)
}

func (s *stream) Write(p []byte) (int, error) {
	tcp, err := s.wait()
	if err != nil {
		return 0, err
	}
	return tcp.Write(p)
}

func (s *stream) CloseWrite() error {
	tcp, err := s.wait()
	if err != nil {
		return err
	}
	return tcp.CloseWrite()
}

func (s *stream) Close() error {
	s.dialed(nil, net.ErrClosed)
	s.done.Do(func() { s.world.count(-1) })
	if s.tcp != nil {
		return s.tcp.Close()
	}
	return nil
}

func (s *stream) Reset(code flow.Code) {
	s.dialed(nil, flow.Errorf(code, "reset"))
	if s.tcp != nil {
		reset(s.tcp)
	}
}

func (s *stream) Join(conn net.Conn) error {
	app := conn.(*net.TCPConn)
	far, err := s.wait()
	if err != nil {
		reset(app)
		return err
	}
	errs := make(chan error, 2) // one from each direction
	pump := func(dst, src *net.TCPConn) {
		_, err := io.Copy(dst, src)
		if err != nil {
			reset(dst)
			reset(src)
		} else {
			dst.CloseWrite()
		}
		errs <- err
	}
	go pump(far, app)
	go pump(app, far)
	err = errors.Join(<-errs, <-errs)
	far.Close()
	app.Close()
	return err
}

func (s *stream) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *stream) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *stream) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (s *stream) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (s *stream) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// running is a Server that is being served, and its log.
type running struct {
	*Server
	addr string
	log  *syncBuffer
	stop func()
}

// start serves cfg on loopback until the test ends; then nothing may be left, and no log line may name a place.
func start(t testing.TB, w *world, cfg Config) *running {
	t.Helper()
	return startOn(t, w, cfg, "127.0.0.1:0")
}

func startOn(t testing.TB, w *world, cfg Config, at string) *running {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("no listener on %s: %v", at, err)
	}
	r := &running{addr: ln.Addr().String(), log: new(syncBuffer)}
	cfg.Outside = w
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Server = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1) // Serve's result, whether or not anyone comes for it
	go func() { served <- r.Serve(ctx, ln) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Serve: %v, want context.Canceled", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve has not returned 10 s after its context was done")
		}
		if s := r.Stats(); s.Conns != 0 || s.Associations != 0 {
			t.Errorf("after Serve: %d connections and %d associations", s.Conns, s.Associations)
		}
		w.mu.Lock()
		live := w.live
		w.mu.Unlock()
		if live != 0 {
			t.Errorf("after Serve: %d streams were not closed", live)
		}
		for _, never := range []string{"example", "127.0.0.1", "::1", "detail", "level=ERROR"} {
			if bytes.Contains(r.log.Bytes(), []byte(never)) {
				t.Errorf("the log has %q:\n%s", never, r.log.Bytes())
			}
		}
	})
	t.Cleanup(r.stop)
	return r
}

// dial connects to the proxy.
func (r *running) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// listen serves each connection with handle until the test ends.
func listen(t testing.TB, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	return listenOn(t, "127.0.0.1:0", handle)
}

func listenOn(t testing.TB, at string, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("no listener on %s: %v", at, err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return netip.MustParseAddrPort(ln.Addr().String())
}

// echo sends everything back, and its end too.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

// eventually waits for what happens in another goroutine without a signal.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}

func mustWrite(t testing.TB, w io.Writer, p []byte) {
	t.Helper()
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
}

// mustRead reads exactly want.
func mustRead(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}
