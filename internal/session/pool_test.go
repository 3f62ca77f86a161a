package session

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// When sleepers have filled the pool, those who have slept longest pay, and whoever works goes on.
func TestSleepersPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(4 << 20)
		var sleepers []*pair
		add := func() *pair {
			p := newPair(t, sends(1<<20))
			p.pool.remove(p.gateway)
			p.gateway.cfg.Pool = pool
			pool.add(p.gateway)
			return p
		}
		for range 20 {
			p := add()
			l := p.attach(fast)
			st, err := p.client.Open(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, st)
			time.Sleep(25 * time.Millisecond) // in the middle of the download
			l.reset()
			sleepers = append(sleepers, p)
			time.Sleep(time.Second)
			if n := pool.Used(); n > pool.Limit() {
				t.Fatalf("%d bytes are in use, %d may be", n, pool.Limit())
			}
		}
		first, last := sleepers[0].gateway.Status(), sleepers[len(sleepers)-1].gateway
		if first.Held > MaxSleeperMemory {
			t.Errorf("the one that has slept longest still holds %d bytes", first.Held)
		}
		if last.Err() != nil {
			t.Errorf("the one that fell asleep last was ended: %v", last.Err())
		}
		p := add()
		p.attach(fast)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, st); n != 1<<20 || err != nil {
			t.Errorf("a download among sleepers got %d bytes, %v", n, err)
		}
		for _, p := range append(sleepers, p) {
			p.client.Close(flow.CodeLocalShutdown)
			p.gateway.Close(flow.CodeLocalShutdown)
		}
		synctest.Wait()
		if n := pool.Used(); n != 0 {
			t.Errorf("%d bytes are still in use", n)
		}
	})
}
