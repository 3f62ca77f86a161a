package session_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
)

var tlsSeed = flag.Uint64("tlsseed", 0, "run only the TLS kill schedule with this seed")

// firewall forwards TCP connections to a gateway and commits faults on them.
type firewall struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	conns []*forwarded
	wg    sync.WaitGroup
}

// forwarded is one connection through the firewall.
type forwarded struct {
	inside, outside *net.TCPConn
	// swallow drops what comes up (0) or down (1) once left is used up; pace limits it, in bytes per second.
	swallow [2]atomic.Bool
	left    [2]atomic.Int64
	pace    [2]atomic.Int64
}

func newFirewall(tb testing.TB, to string) *firewall {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &firewall{l: l, to: to}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			fc := &forwarded{inside: c.(*net.TCPConn), outside: out.(*net.TCPConn)}
			f.mu.Lock()
			f.conns = append(f.conns, fc)
			f.mu.Unlock()
			f.wg.Go(func() { fc.copy(fc.outside, fc.inside, 0) })
			f.wg.Go(func() { fc.copy(fc.inside, fc.outside, 1) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.inside.Close()
			c.outside.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f
}

func (c *forwarded) copy(to, from *net.TCPConn, way int) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if p := c.pace[way].Load(); p > 0 {
				n = min(n, 1000)
				time.Sleep(time.Duration(n) * time.Second / time.Duration(p))
			}
			if c.swallow[way].Load() && c.left[way].Add(-int64(n)) < 0 {
				continue
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			to.CloseWrite()
			return
		}
	}
}

// harm commits one kind of fault on one of the newest connections.
func (f *firewall) harm(rng *rand.Rand) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.conns) == 0 {
		return "nothing"
	}
	c := f.conns[max(0, len(f.conns)-1-rng.IntN(2))]
	hole := func(way int, after int64) {
		c.left[way].Store(after)
		c.swallow[way].Store(true)
	}
	switch rng.IntN(7) {
	case 0:
		c.inside.SetLinger(0)
		c.outside.SetLinger(0)
		c.inside.Close()
		c.outside.Close()
		return "reset"
	case 1:
		c.inside.CloseWrite()
		c.outside.CloseWrite()
		return "fin"
	case 2:
		hole(0, 0)
		hole(1, 0)
		return "black hole"
	case 3:
		hole(0, 16<<10)
		hole(1, 16<<10)
		return "freeze after 16 KiB"
	case 4:
		hole(0, 0)
		return "black hole up"
	case 5:
		hole(1, 0)
		return "black hole down"
	default:
		c.pace[0].Store(1250)
		c.pace[1].Store(1250)
		return "10 kbit/s"
	}
}

// TestKillTLS is TestKillSchedules in small, over real TLS on real sockets, with streams joined to real connections.
func TestKillTLS(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4}
	if testing.Short() {
		seeds = seeds[:1]
	}
	if *tlsSeed != 0 {
		seeds = []uint64{*tlsSeed}
	}
	for _, seed := range seeds {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			killTLS(t, seed)
			if t.Failed() {
				t.Logf("seed %d: run it again with -tlsseed %d", seed, seed)
			}
		})
	}
}

func killTLS(t *testing.T, seed uint64) {
	site, err := net.Listen("tcp", "127.0.0.1:0") // echoes
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	go func() {
		for {
			c, err := site.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.(*net.TCPConn).CloseWrite()
			}()
		}
	}()
	w := newTLSWorld(t, func(st *session.Stream, _ flow.Target) {
		c, err := net.Dial("tcp", site.Addr().String())
		st.Answer(err)
		if err == nil {
			st.Join(c)
		}
	})
	fw := newFirewall(t, w.endpoint.Addr)
	stop := make(chan struct{})
	var helpers sync.WaitGroup
	dials := 0
	began := time.Now()
	helpers.Go(func() { // keeps two healthy links, with dials 450 ms apart
		for {
			healthy := 0
			for _, l := range w.client.Status().Links {
				if !l.Suspected && !l.Draining {
					healthy++
				}
			}
			if healthy < 2 {
				dials++
				w.attach(fw.l.Addr().String())
			}
			select {
			case <-stop:
				return
			case <-time.After(450 * time.Millisecond):
			}
		}
	})
	rng := rand.New(rand.NewPCG(seed, 1))
	helpers.Go(func() {
		for range 10 {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(200+rng.IntN(600)) * time.Millisecond):
				t.Logf("%5.2fs %s", time.Since(began).Seconds(), fw.harm(rng))
			}
		}
	})
	var streams sync.WaitGroup
	for i := range 4 {
		streams.Go(func() {
			want := bytes.Repeat([]byte{byte(i), 1, 2, byte(seed)}, 1<<20)
			app, joined := tcpPair(t)
			defer app.Close()
			st, err := w.client.Open(t.Context(), flow.Target{Host: "x.example", Port: 443}, true)
			if err != nil {
				t.Error(err)
				return
			}
			streams.Go(func() {
				if err := st.Join(joined); err != nil {
					t.Errorf("stream %d ended with %v", i, err)
				}
			})
			streams.Go(func() { // paced, so that the faults meet it
				rng := rand.New(rand.NewPCG(seed, uint64(10+i)))
				for b := want; len(b) > 0; b = b[min(len(b), 64<<10):] {
					if _, err := app.Write(b[:min(len(b), 64<<10)]); err != nil {
						t.Errorf("stream %d: %v", i, err)
						return
					}
					time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				}
				app.CloseWrite()
			})
			h := sha256.New()
			n, err := io.Copy(h, app)
			if err != nil || n != int64(len(want)) || [32]byte(h.Sum(nil)) != sha256.Sum256(want) {
				t.Errorf("stream %d: %d of %d bytes came back, %v", i, n, len(want), err)
			}
		})
	}
	streams.Wait()
	close(stop)
	helpers.Wait()
	if most := int(time.Since(began)/(450*time.Millisecond)) + 2; dials > most {
		t.Errorf("%d dials in %v", dials, time.Since(began))
	}
	t.Logf("%d dials, %v", dials, time.Since(began).Round(time.Millisecond))
}
