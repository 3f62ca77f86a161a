package session

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// writes notes what a link's end is given to write.
type writes struct {
	*simNonBlocking
	mu  sync.Mutex
	all []write
}

type write struct {
	at   time.Time
	size int
}

func (w *writes) WriteBatch(bufs [][]byte) error {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	w.mu.Lock()
	w.all = append(w.all, write{time.Now(), n})
	w.mu.Unlock()
	return w.simNonBlocking.WriteBatch(bufs)
}

func (w *writes) take() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

// attachWatched joins the ends by a link whose writes are noted.
func (p *pair) attachWatched(path simPath) (up, down *writes) {
	p.t.Helper()
	l := newSimLink(path)
	up, down = &writes{simNonBlocking: &simNonBlocking{simConn: l.client}}, &writes{simNonBlocking: &simNonBlocking{simConn: l.gateway}}
	opt := LinkOptions{Transport: "sim", Confirmed: true, RTT: 2 * path.delay}
	if _, err := p.gateway.Attach(down, opt); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.client.Attach(up, opt); err != nil {
		p.t.Fatal(err)
	}
	p.links = append(p.links, l)
	return up, down
}

// A handshake's first flights have other lengths than the application gave them, the OPEN goes with the hello, and the
// gateway answers before the site does.
func TestShapeBeginning(t *testing.T) {
	for _, level := range []shape.Level{shape.Off, shape.Low, shape.High} {
		synctest.Test(t, func(t *testing.T) {
			p := newShapedPair(t, level, func(st *Stream, _ flow.Target) {
				time.Sleep(300 * time.Millisecond) // the site is far
				st.Answer(nil)
				io.ReadFull(st, make([]byte, 2000))
				st.Write(make([]byte, 5000))
				io.Copy(io.Discard, st)
				st.CloseWrite()
			})
			up, down := p.attachWatched(fast)
			time.Sleep(time.Second)
			up.take()
			down.take()
			st, err := p.client.Open(t.Context(), target, true)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			began := time.Now()
			st.Write(make([]byte, 2000))
			time.Sleep(100 * time.Millisecond)
			sent, answered := up.take(), down.take()
			if level == shape.Off {
				// The OPEN is a young link's small write, which is given some length.
				if len(sent) < 2 || sent[0].size > 2*smallWrite+wire.HeaderLen || sent[1].size > 2100 {
					t.Errorf("without shaping %v was sent", sent)
				}
			} else {
				if sent[0].size < 3100 {
					t.Errorf("%v: the hello went as %v", level, sent)
				}
				if len(answered) == 0 || answered[0].at.Sub(began) > 2*fast.delay {
					t.Errorf("%v: the gateway answered %v", level, answered)
				}
			}
			if _, err := io.ReadFull(st, make([]byte, 5000)); err != nil {
				t.Fatal(err)
			}
			st.Close()
			p.close()
		})
	}
}

// What is held goes after 30 ms, whether anything follows or not.
func TestShapeHoldsShortly(t *testing.T) {
	for _, level := range []shape.Level{shape.Low, shape.High} {
		synctest.Test(t, func(t *testing.T) {
			opened := make(chan time.Time, 1)
			p := newShapedPair(t, level, func(st *Stream, target flow.Target) {
				opened <- time.Now()
				if target.Port == 22 { // the server speaks first
					st.Answer(nil)
					st.Write([]byte("SSH-2.0"))
				} else {
					io.ReadFull(st, make([]byte, 1))
					st.Answer(nil)
				}
				io.Copy(io.Discard, st)
				st.CloseWrite()
			})
			p.attach(fast)
			time.Sleep(time.Second)
			began := time.Now()
			silent, err := p.client.Open(t.Context(), target, true) // and then says nothing
			if err != nil {
				t.Fatal(err)
			}
			if d := (<-opened).Sub(began); d < fast.delay || d > fast.delay+31*time.Millisecond {
				t.Errorf("%v: OPEN took %v", level, d)
			}
			silent.Write([]byte("x"))
			began = time.Now()
			<-silent.(*Stream).answered
			if d := time.Since(began); d > 2*fast.delay+31*time.Millisecond {
				t.Errorf("%v: OPENED took %v", level, d)
			}
			began = time.Now()
			shell, err := p.client.Open(t.Context(), flow.Target{Host: "shell.example", Port: 22}, false)
			if err != nil {
				t.Fatal(err)
			}
			<-opened
			if d := time.Since(began); d > 2*fast.delay+time.Millisecond {
				t.Errorf("%v: a stream that waits for its answer took %v", level, d)
			}
			silent.Close()
			shell.Close()
			p.close()
		})
	}
}

// A keystroke takes as long as it does without shaping, and a download is as quick and as large.
func TestShapeLeavesTheRest(t *testing.T) {
	took := map[shape.Level][2]time.Duration{}
	bytes := map[shape.Level]int{}
	for _, level := range []shape.Level{shape.Off, shape.Low, shape.High} {
		synctest.Test(t, func(t *testing.T) {
			p := newShapedPair(t, level, func(st *Stream, target flow.Target) {
				if target.Port == 22 {
					echo(st, target)
					return
				}
				st.Answer(nil)
				st.Write(make([]byte, 20<<20))
				st.CloseWrite()
			})
			_, down := p.attachWatched(fast)
			keys, err := p.client.Open(t.Context(), flow.Target{Host: "shell.example", Port: 22}, false)
			if err != nil {
				t.Fatal(err)
			}
			var worst time.Duration
			for range 50 {
				began := time.Now()
				keys.Write([]byte("k"))
				if _, err := io.ReadFull(keys, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				worst = max(worst, time.Since(began))
				time.Sleep(70 * time.Millisecond)
			}
			keys.Close()
			down.take()
			began := time.Now()
			bulk, err := p.client.Open(t.Context(), target, true)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, bulk); n != 20<<20 || err != nil {
				t.Fatal(n, err)
			}
			took[level] = [2]time.Duration{worst, time.Since(began)}
			for _, w := range down.take() {
				bytes[level] += w.size
			}
			bulk.Close()
			p.close()
		})
	}
	off := took[shape.Off]
	for _, level := range []shape.Level{shape.Low, shape.High} {
		got := took[level]
		t.Logf("%v: the slowest keystroke %v (off %v), 20 MiB in %v (off %v), %d bytes (off %d)", level, got[0], off[0], got[1], off[1],
			bytes[level], bytes[shape.Off])
		if got[0] > off[0]+30*time.Millisecond {
			t.Errorf("%v: a keystroke took %v, without shaping %v", level, got[0], off[0])
		}
		if got[1] > off[1]+30*time.Millisecond || bytes[level] > bytes[shape.Off]+20<<10 {
			t.Errorf("%v: a download took %v and %d bytes, without shaping %v and %d", level, got[1], bytes[level], off[1], bytes[shape.Off])
		}
	}
}
