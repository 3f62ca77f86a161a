package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/shape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a session with both its ends, and the links between them.
type pair struct {
	t       *testing.T
	pool    *Pool
	client  *Session
	gateway *Session
	links   []*simLink
}

func newPair(t *testing.T, accept func(*Stream, flow.Target)) *pair {
	return newShapedPair(t, shape.Off, accept)
}

func newShapedPair(t *testing.T, level shape.Level, accept func(*Stream, flow.Target)) *pair {
	p := &pair{t: t, pool: NewPool(256 << 20)}
	id := [16]byte{1}
	p.client = New(Config{Role: Client, ID: id, Pool: p.pool, Shape: level})
	p.gateway = New(Config{Role: Gateway, ID: id, Pool: p.pool, Shape: level, Accept: accept,
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			if name == "known.example" {
				return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
			}
			return nil, flow.Errorf(flow.CodeNameNotFound, "no")
		}})
	return p
}

// attach joins the ends by one more link.
func (p *pair) attach(path simPath) *simLink {
	p.t.Helper()
	l := newSimLink(path)
	c, g := l.conns(path)
	next := p.client.Next()
	if _, err := p.gateway.Attach(g, LinkOptions{Transport: "sim", Confirmed: true, PeerNext: next, RTT: 2 * path.delay}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.client.Attach(c, LinkOptions{Transport: "sim", Confirmed: true, PeerNext: p.gateway.Next(), RTT: 2 * path.delay}); err != nil {
		p.t.Fatal(err)
	}
	p.links = append(p.links, l)
	return l
}

func (p *pair) close() {
	p.t.Helper()
	p.client.Close(flow.CodeLocalShutdown)
	<-p.gateway.Done()
	synctest.Wait()
	if n := p.pool.Used(); n != 0 {
		p.t.Errorf("%d bytes are still held after the end", n)
	}
}

var (
	fast   = simPath{delay: 10 * time.Millisecond, rate: 10e6}
	target = flow.Target{Host: "site.example", Port: 443}
)

// echo answers and sends back what comes, then ends.
func echo(st *Stream, _ flow.Target) {
	st.Answer(nil)
	io.Copy(st, st)
	st.CloseWrite()
}

// sends serves n bytes to whoever opens a stream.
func sends(n int) func(*Stream, flow.Target) {
	return func(st *Stream, _ flow.Target) {
		st.Answer(nil)
		st.Write(pattern(n, 0))
		st.CloseWrite()
	}
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8) + seed
	}
	return b
}

func TestEcho(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, echo)
			path := fast
			path.blocking = blocking
			p.attach(path)
			st, err := p.client.Open(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			want := pattern(3<<20, 1)
			go func() {
				st.Write(want)
				st.CloseWrite()
			}()
			got, err := io.ReadAll(st)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d of %d bytes came back, %v", len(got), len(want), err)
			}
			st.Close()
			p.close()
		})
	}
}

func TestOpenAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(st *Stream, target flow.Target) {
			time.Sleep(50 * time.Millisecond)
			switch target.Host {
			case "refused.example":
				st.Answer(flow.Errorf(flow.CodeRefused, "no"))
			case "slow.example":
				time.Sleep(time.Minute)
				st.Answer(nil)
			default:
				echo(st, target)
			}
		})
		p.attach(fast)
		_, err := p.client.Open(t.Context(), flow.Target{Host: "refused.example", Port: 80}, false)
		if flow.CodeOf(err) != flow.CodeRefused {
			t.Errorf("a refused dial gave %v", err)
		}
		st, err := p.client.Open(t.Context(), flow.Target{Host: "refused.example", Port: 80}, true)
		if err != nil {
			t.Fatalf("an early open gave %v", err)
		}
		if _, err := st.Read(make([]byte, 1)); flow.CodeOf(err) != flow.CodeRefused {
			t.Errorf("reading after a refused early open gave %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.client.Open(ctx, flow.Target{Host: "slow.example", Port: 80}, false); flow.CodeOf(err) != flow.CodeTimeout {
			t.Errorf("an open that took too long gave %v", err)
		}
		// A new stream costs one round trip when it is opened early: what comes back is there 20 ms of network and 50 ms
		// of dialling after it was asked for.
		start := time.Now()
		st, _ = p.client.Open(t.Context(), target, true)
		st.Write([]byte("hello"))
		if _, err := io.ReadFull(st, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 75*time.Millisecond {
			t.Errorf("an early stream's first answer took %v", d)
		}
		st.Reset(flow.CodeReset)
		time.Sleep(2 * time.Minute)
		p.close()
	})
}

func TestResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo)
		p.attach(fast)
		addrs, err := p.client.Resolve(t.Context(), "known.example")
		if err != nil || len(addrs) != 2 || addrs[0] != netip.MustParseAddr("192.0.2.7") {
			t.Errorf("got %v, %v", addrs, err)
		}
		if _, err := p.client.Resolve(t.Context(), "unknown.example"); flow.CodeOf(err) != flow.CodeNameNotFound {
			t.Errorf("an unknown name gave %v", err)
		}
		p.close()
	})
}

func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got [][]byte
		p := newPair(t, echo)
		p.gateway.cfg.Packet = func(b []byte) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, bytes.Clone(b))
		}
		l := p.attach(fast)
		if err := p.client.SendPacket([]byte("one")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		mu.Lock()
		if len(got) != 1 || string(got[0]) != "one" {
			t.Errorf("%q came through", got)
		}
		mu.Unlock()
		// Behind bulk on a slow link packets go first, and late ones not at all.
		l.up.setRate(100e3)
		st, _ := p.client.Open(t.Context(), target, true)
		go st.Write(pattern(1<<20, 0))
		time.Sleep(200 * time.Millisecond)
		for range 1000 {
			p.client.SendPacket(make([]byte, 1000))
		}
		time.Sleep(time.Minute)
		s := p.client.Status()
		if s.PacketsFull == 0 || s.PacketsLate == 0 {
			t.Errorf("%d packets were dropped for want of room and %d as late: want some of each", s.PacketsFull, s.PacketsLate)
		}
		st.Reset(flow.CodeReset)
		p.close()
	})
}

func TestResetReachesBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1) // the handler below gives one error
		p := newPair(t, func(st *Stream, _ flow.Target) {
			st.Answer(nil)
			_, err := io.Copy(io.Discard, st)
			ended <- err
		})
		p.attach(fast)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		st.Write(pattern(100<<10, 0))
		st.Reset(flow.CodeReset)
		if err := <-ended; !errors.Is(err, flow.ErrReset) {
			t.Errorf("the far side read %v", err)
		}
		if _, err := st.Write([]byte("x")); !errors.Is(err, flow.ErrReset) {
			t.Errorf("writing after a reset gave %v", err)
		}
		p.close()
	})
}

// A session is not broken by the loss of its only link: what was swallowed is sent again on the next one.
func TestResumeOnNewLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo)
		first := p.attach(fast)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		want := pattern(8<<20, 3)
		go func() {
			st.Write(want)
			st.CloseWrite()
		}()
		go func() {
			time.Sleep(300 * time.Millisecond)
			first.blackHole()
			time.Sleep(2 * time.Second)
			first.reset()
			time.Sleep(time.Minute)
			p.attach(fast)
		}()
		got, err := io.ReadAll(st)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d of %d bytes came back, %v", len(got), len(want), err)
		}
		p.close()
	})
}

// A session that is not resumed in time ends cleanly at both ends.
func TestSleepAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(st *Stream, _ flow.Target) {
			st.Answer(nil)
			st.Write(pattern(4<<20, 0))
		})
		l := p.attach(fast)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		l.reset()
		time.Sleep(DefaultGrace + time.Minute)
		if held := p.gateway.Status().Held; held > MaxSleeperMemory {
			t.Errorf("a sleeping session holds %d bytes", held)
		}
		time.Sleep(DefaultSleep)
		for _, s := range []*Session{p.client, p.gateway} {
			select {
			case <-s.Done():
			default:
				t.Error("a session outlived its sleep")
			}
		}
		if _, err := io.Copy(io.Discard, st); !errors.Is(err, flow.ErrReset) {
			t.Errorf("its stream read %v", err)
		}
		if n := p.pool.Used(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	})
}

// Readers that stall cannot make a session hold more than it may, and do not stop others.
func TestStalledReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(st *Stream, _ flow.Target) {
			st.Answer(nil)
			for {
				if _, err := st.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
		p.attach(simPath{delay: 100 * time.Millisecond, rate: 100e6})
		var stalled []flow.Stream
		for range 8 {
			st, err := p.client.Open(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			io.CopyN(io.Discard, st, 20<<20) // long enough for its window to widen
			stalled = append(stalled, st)
		}
		time.Sleep(10 * time.Second)
		if n := p.client.Status().Reassembly; n > MaxSessionMemory {
			t.Errorf("%d bytes are held for readers", n)
		}
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := io.CopyN(io.Discard, st, 4<<20); err != nil {
			t.Fatal(err)
		}
		t.Logf("4 MiB beside %d stalled readers took %v", len(stalled), time.Since(start))
		p.close()
	})
}

// An idle link is probed rarely, and ever more rarely while that works.
func TestIdleProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo)
		l := p.attach(fast)
		time.Sleep(6 * time.Hour)
		every := p.client.Status().ProbeInterval
		if every != probeMax {
			t.Errorf("after six silent hours it is probed every %v", every)
		}
		if sent := p.client.Status().Links[0].Sent; sent > 2000 {
			t.Errorf("six silent hours cost %d bytes", sent)
		}
		l.blackHole()
		time.Sleep(30 * time.Minute)
		if st := p.client.Status(); len(st.Links) != 0 {
			t.Errorf("a dead idle link is still there: %+v", st.Links)
		}
		if now := p.client.Status().ProbeInterval; now >= every {
			t.Errorf("the interval was not shortened: %v", now)
		}
		p.client.Close(flow.CodeLocalShutdown)
		p.gateway.Close(flow.CodeLocalShutdown)
	})
}
