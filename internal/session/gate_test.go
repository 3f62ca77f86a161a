package session

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A member with a hundred senders gets no more than one with four, when both always have something to send.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2)
		flood, modest := g.Join(), g.Join()
		var mu sync.Mutex
		sent := map[*Member]int{}
		stop := time.Now().Add(10 * time.Second)
		send := func(m *Member, n int) {
			for time.Now().Before(stop) {
				m.enter()
				time.Sleep(time.Duration(n) * time.Microsecond) // a byte takes a microsecond
				m.leave(n)
				mu.Lock()
				sent[m] += n
				mu.Unlock()
			}
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { send(flood, 1000) })
		}
		for range 4 {
			wg.Go(func() { send(modest, 1000) })
		}
		wg.Wait()
		if r := float64(sent[modest]) / float64(sent[flood]); r < 0.9 || r > 1.1 {
			t.Errorf("the flooding member sent %d bytes, the other %d", sent[flood], sent[modest])
		}
		if g.busy != 0 || flood.waiting.len() != 0 {
			t.Errorf("%d are inside and %d wait after all have left", g.busy, flood.waiting.len())
		}
	})
}

// Whoever sends little waits for little, however many others wait.
func TestGateWaitIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1)
		stop := time.Now().Add(time.Second)
		var wg sync.WaitGroup
		flood := g.Join()
		for range 50 {
			wg.Go(func() {
				for time.Now().Before(stop) {
					flood.enter()
					time.Sleep(100 * time.Microsecond)
					flood.leave(batchBytes)
				}
			})
		}
		small := g.Join()
		var worst time.Duration
		for time.Now().Before(stop) {
			begin := time.Now()
			small.enter()
			worst = max(worst, time.Since(begin))
			small.leave(100)
			time.Sleep(3 * time.Millisecond)
		}
		wg.Wait()
		if worst > 400*time.Microsecond {
			t.Errorf("it waited %v for a turn that takes 100µs", worst)
		}
	})
}

// A link whose far side takes nothing, and whose connection has its writer wait for it, holds up nobody else.
func TestGateIsNotHeldByOneWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		p := newPair(t, sends(size))
		p.gateway.cfg.Turn = NewGate(1).Join()
		pipe := fast
		pipe.blocking = true
		p.attach(pipe)
		st, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		p.links[0].blackHole()
		time.Sleep(time.Second) // the writer waits now
		p.attach(fast)
		begin := time.Now()
		if n, err := io.Copy(io.Discard, st); n != size || err != nil || time.Since(begin) > 5*time.Second {
			t.Errorf("%d of %d bytes in %v, %v", n, size, time.Since(begin), err)
		}
		st.Close()
		p.close()
	})
}
