package session

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// Links help one another where that carries more, and only there.
func TestStriping(t *testing.T) {
	const size = 10 << 20
	for _, c := range []struct {
		name  string
		path  simPath
		links int
		want  int // how many of them carry bulk
	}{
		{"one", simPath{delay: 20 * time.Millisecond, rate: 1e6}, 1, 1},
		{"nothing is known of the path", simPath{delay: 20 * time.Millisecond, rate: 1e6}, 2, 2},
		{"one of three stays free", simPath{delay: 20 * time.Millisecond, rate: 1e6}, 3, 2},
		{"nothing is lost", simPath{delay: 20 * time.Millisecond, rate: 1e6, measured: true}, 2, 1},
		{"some is lost", simPath{delay: 20 * time.Millisecond, rate: 1e6, measured: true, losses: 0.02}, 2, 2},
		{"it is slow", simPath{delay: 20 * time.Millisecond, rate: 200e3, measured: true}, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, sends(size))
				for range c.links {
					p.attach(c.path)
				}
				st, err := p.client.Open(t.Context(), target, false)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if n, err := io.Copy(io.Discard, st); err != nil || n != size {
					t.Fatalf("%d bytes, %v", n, err)
				}
				took := time.Since(start)
				carried := 0
				for _, l := range p.gateway.Status().Links {
					if l.Sent > size/8 {
						carried++
					}
				}
				alone := time.Duration(size / c.path.rate * float64(time.Second))
				if carried != c.want || took > alone/time.Duration(c.want)*5/4 {
					t.Errorf("%d links carried it in %v, want %d; one would take %v", carried, took, c.want, alone)
				}
				p.close()
			})
		})
	}
}

// The link that carries most becomes the main one, however young it is, and one that carries next to nothing beside it holds
// nothing up.
func TestStrongestBecomesMain(t *testing.T) {
	const size = 40 << 20
	weak := simPath{delay: 100 * time.Millisecond, rate: 50e3, measured: true, losses: 0.02}
	for _, losses := range []float64{0, 0.02} { // of the strong one; then both want help
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, sends(size))
			strong := simPath{delay: 100 * time.Millisecond, rate: 10e6, measured: true, losses: losses}
			p.attach(weak)
			st, err := p.client.Open(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second) // the old one is known to be weak
			p.attach(strong)
			start := time.Now()
			if n, err := io.Copy(io.Discard, st); err != nil || n != size {
				t.Fatalf("%d bytes, %v", n, err)
			}
			took, alone := time.Since(start), time.Duration(size/strong.rate*float64(time.Second))
			if took > alone*3/2+time.Second {
				t.Errorf("losses of %v: it took %v, where the strong link alone would take %v", losses, took, alone)
			}
			links := p.gateway.Status().Links
			if links[0].Sent > 400e3 {
				t.Errorf("losses of %v: the weak link carried %d bytes", losses, links[0].Sent)
			}
			p.close()
		})
	}
}

// While a link fills the path, what is small goes on the free one and waits for nothing of it.
func TestKeystrokeOnFreeLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bulkOrEcho)
		path := simPath{delay: 50 * time.Millisecond, rate: 1e6, measured: true} // 64 KiB unsent are 65 ms
		p.attach(path)
		p.attach(path)
		keys := p.typeBesideDownload()
		time.Sleep(3 * time.Second)
		p.links[0].down.setRate(1) // the busy one stalls, and nobody knows yet
		for i := range 3 {
			start := time.Now()
			keys.Write([]byte("k"))
			if _, err := io.ReadFull(keys, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 110*time.Millisecond {
				t.Errorf("keystroke %d took %v at a round trip of 100ms", i, took)
			}
		}
		p.close()
	})
}

// A link that takes no more, while all it ever had was acknowledged on others, is suspected like one that owes an
// acknowledgement: it must not go on carrying bulk for the age it has.
func TestStuckLinkCarriesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 20 << 20
		p := newPair(t, sends(size))
		path := simPath{delay: 20 * time.Millisecond, rate: 4e6, measured: true}
		p.attach(path)
		p.attach(path)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan int64, 1) // the reader ends whether or not the test waits for it
		go func() {
			n, _ := io.Copy(io.Discard, st)
			got <- n
		}()
		time.Sleep(time.Second)
		p.links[0].up.swallowAfter(0) // what comes down still arrives, but nobody says so
		time.Sleep(300 * time.Millisecond)
		p.links[0].blackHole()
		p.links[1].blackHole()
		time.Sleep(300 * time.Millisecond) // the gateway has sent it all again on the second link, and that is full
		p.attach(path)
		time.Sleep(20 * time.Second)
		select {
		case n := <-got:
			if n != size {
				t.Errorf("%d of %d bytes", n, size)
			}
		default:
			t.Errorf("the download stands still with a good link: %+v", p.gateway.Status().Links)
		}
		p.close()
	})
}

// A chunk is not waited for on a weak link when the strong one beside it has carried many times as much, also where nothing
// stands still for it yet.
func TestOutdone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 900 << 10 // the stream's window has room for all of it
		p := newPair(t, sends(size))
		p.attach(simPath{delay: 100 * time.Millisecond, rate: 20e3, measured: true, losses: 0.02})
		p.attach(simPath{delay: 100 * time.Millisecond, rate: 10e6, measured: true})
		p.gateway.links[0].path.help = true
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if n, err := io.Copy(io.Discard, st); err != nil || n != size {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("900 KB took %v: the weak link's part was waited for", took)
		}
		p.close()
	})
}
