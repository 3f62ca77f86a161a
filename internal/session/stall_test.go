package session

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// With a second link, a download that is swallowed goes on within a second (DESIGN.md: 100 ms round trip).
func TestStallIsShort(t *testing.T) {
	worst := worstStall(t, func(a, _ *simLink) { a.blackHole() })
	t.Logf("longest stall %v", worst)
	if worst > time.Second {
		t.Errorf("the download stalled for %v", worst)
	}
}

// While all links are suspected, what is to be sent goes on one that may be dead. It does not stay there when another one
// recovers.
func TestStallEndsWithSuspicion(t *testing.T) {
	worst := worstStall(t, func(a, b *simLink) {
		a.blackHole()
		b.up.hold(800 * time.Millisecond)
		b.down.hold(800 * time.Millisecond)
	})
	t.Logf("longest stall %v", worst)
	if worst > 2*time.Second {
		t.Errorf("the download stalled for %v", worst)
	}
}

// A link that comes while a stream waits in silence, and is dead, is found so although the client has nothing to send by it.
func TestSilentNewLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(st *Stream, _ flow.Target) { st.Answer(nil) })
		path := simPath{delay: 50 * time.Millisecond, rate: 2e6}
		a := p.attach(path)
		if _, err := p.client.Open(t.Context(), target, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		a.blackHole()
		p.attach(path).blackHole()
		time.Sleep(2 * time.Second)
		for _, l := range p.client.Status().Links {
			if !l.Suspected {
				t.Errorf("link %d is not suspected after two seconds", l.ID)
			}
		}
		p.close()
	})
}

// worstStall does something to both links of a session with a download of 20 MB on them, and is how long that stood still.
func worstStall(t *testing.T, blow func(a, b *simLink)) (worst time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, sends(20<<20))
		path := simPath{delay: 50 * time.Millisecond, rate: 2e6}
		a, b := p.attach(path), p.attach(path)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Second, func() { blow(a, b) })
		last, n := time.Now(), 0
		buf := make([]byte, 64<<10)
		for {
			m, err := st.Read(buf)
			n += m
			worst = max(worst, time.Since(last))
			last = time.Now()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if n != 20<<20 {
			t.Errorf("%d bytes came", n)
		}
		p.close()
	})
	return worst
}

// Where every connection freezes after 16 KB, a download goes on, over one after another: also what was cut into large
// chunks before that.
func TestFrozenLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		p := newPair(t, sends(size))
		path := simPath{delay: 50 * time.Millisecond, rate: 12e6}
		first := p.attach(path)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		buf := make([]byte, 64<<10)
		read := func() {
			m, err := st.Read(buf)
			if n += m; err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		for n < size/2 {
			read()
		}
		first.blackHole()
		links, done := 0, make(chan struct{})
		var attaching sync.WaitGroup
		attaching.Go(func() {
			for every := time.Tick(time.Second); ; links++ {
				l := p.attach(path)
				l.up.swallowAfter(16 << 10)
				l.down.swallowAfter(16 << 10)
				select {
				case <-every:
				case <-done:
					return
				}
			}
		})
		for n < size {
			read()
		}
		close(done)
		attaching.Wait()
		t.Logf("%d bytes by %d links", size/2, links)
		if links > 300 {
			t.Errorf("%d bytes took %d links of 16 KiB", size/2, links)
		}
		p.close()
	})
}

// What had to go by a link that carries next to nothing goes by another as soon as there is one.
func TestScarceGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2 << 20
		p := newPair(t, sends(size))
		p.attach(simPath{delay: 50 * time.Millisecond, rate: 4e3, scarce: true})
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := p.client.Status().Received; got < 20e3 {
			t.Errorf("%d bytes came by it in 10 s", got)
		}
		begin := time.Now()
		good := p.attach(simPath{delay: 50 * time.Millisecond, rate: 2e6})
		got, err := io.ReadAll(st)
		if took := time.Since(begin); err != nil || len(got) != size || took > 4*time.Second {
			t.Errorf("%d bytes in %v, %v", len(got), took, err)
		}
		good.blackHole()
		again, err := p.client.Open(t.Context(), target, false) // by the first, once more
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		p.close()
	})
}
