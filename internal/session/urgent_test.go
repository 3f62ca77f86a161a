package session

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// bulkOrEcho serves downloads without end, and an echo on port 22.
func bulkOrEcho(st *Stream, target flow.Target) {
	if target.Port == 22 {
		echo(st, target)
		return
	}
	st.Answer(nil)
	for {
		if _, err := st.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

// typeBesideDownload begins a download and opens the stream that is typed on.
func (p *pair) typeBesideDownload() (keys flow.Stream) {
	p.t.Helper()
	bulk, err := p.client.Open(p.t.Context(), target, false)
	if err != nil {
		p.t.Fatal(err)
	}
	go io.Copy(io.Discard, bulk)
	if keys, err = p.client.Open(p.t.Context(), flow.Target{Host: "shell.example", Port: 22}, false); err != nil {
		p.t.Fatal(err)
	}
	return keys
}

// A keystroke does not wait behind a download.
func TestKeystrokeBesideDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bulkOrEcho)
		p.attach(simPath{delay: 100 * time.Millisecond, rate: 12.5e6})
		keys := p.typeBesideDownload()
		time.Sleep(3 * time.Second)
		var worst time.Duration
		for range 100 {
			start := time.Now()
			keys.Write([]byte("k"))
			if _, err := io.ReadFull(keys, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, time.Since(start))
			time.Sleep(30 * time.Millisecond)
		}
		if worst > 250*time.Millisecond {
			t.Errorf("a keystroke took %v at a round trip of 200ms", worst)
		}
		p.close()
	})
}

// What is small and goes behind much goes on another link, too, and counts once.
func TestUrgentGoesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, bulkOrEcho)
		path := simPath{delay: 50 * time.Millisecond, rate: 2e6}
		a := p.attach(path)
		p.attach(path)
		keys := p.typeBesideDownload()
		time.Sleep(2 * time.Second)
		a.down.swallowAfter(0) // the echo on this link never comes, and nobody knows yet
		begin := time.Now()
		for i := range 20 {
			want := []byte{byte(i)}
			keys.Write(want)
			got := make([]byte, 1)
			if _, err := io.ReadFull(keys, got); err != nil || got[0] != want[0] {
				t.Fatalf("keystroke %d came back as %v, %v", i, got, err)
			}
			if i == 0 && time.Since(begin) > 350*time.Millisecond {
				t.Errorf("the first keystroke after a link went silent took %v: it waited for the suspicion", time.Since(begin))
			}
		}
		if p.gateway.Status().Twice == 0 {
			t.Error("nothing was sent twice")
		}
		p.close()
	})
}
