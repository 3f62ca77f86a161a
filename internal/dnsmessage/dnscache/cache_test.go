package dnscache

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func question(t testing.TB, name string) dnsmessage.Question {
	t.Helper()
	q, ok := dnsmessage.NewQuestion(name, dnsmessage.TypeA)
	if !ok {
		t.Fatal(name)
	}
	return q
}

// source answers with a TTL, or fails.
type source struct {
	ttl   time.Duration
	code  dnsmessage.RCode
	delay time.Duration
	err   error
	asked atomic.Int32
	ended atomic.Int32
}

func (s *source) ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	s.asked.Add(1)
	defer s.ended.Add(1)
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	a := q.Made(s.code, dnsmessage.Record{Type: dnsmessage.TypeA, TTL: uint32(s.ttl / time.Second), Data: []byte{192, 0, 2, 1}})
	a.TTL = s.ttl
	return a, nil
}

func kept(k *Cache) int {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) != k.order.Len() || (len(k.known) == 0) != (k.bytes == 0) || (k.sweeper == nil) != (len(k.known) == 0) {
		panic(fmt.Sprint("the cache contradicts itself: ", len(k.known), k.order.Len(), k.bytes, k.sweeper != nil))
	}
	return len(k.known)
}

// An answer is given for as long as its TTL, with its age, and is not in memory any longer.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{ttl: 100 * time.Second}
		k := New(Config{Ask: s.ask})
		defer k.Close()
		q := question(t, "a.example")
		ask := func(wantAge time.Duration, wantAsked int32) {
			t.Helper()
			_, age, err := k.Answer(t.Context(), q)
			synctest.Wait() // nobody else runs when the test changes something
			if err != nil || age != wantAge || s.asked.Load() != wantAsked {
				t.Errorf("age %v, asked %d, %v; want %v, %d", age, s.asked.Load(), err, wantAge, wantAsked)
			}
		}
		ask(0, 1)
		time.Sleep(99 * time.Second)
		ask(99*time.Second, 1)
		if n := kept(k); n != 1 {
			t.Errorf("%d kept", n)
		}
		time.Sleep(time.Second)
		if n := kept(k); n != 0 {
			t.Errorf("%d kept", n)
		}
		ask(0, 2)
		k.Forget()
		ask(0, 3)
		k.cfg.MaxAge = 10 * time.Second
		k.Forget()
		ask(0, 4)
		time.Sleep(10 * time.Second)
		ask(0, 5)
		s.ttl = 0
		time.Sleep(10 * time.Second)
		ask(0, 6)
		ask(0, 7)
	})
}

// A failure is kept in place of what has expired, if that is not stale but only waits to be swept away.
func TestFailureAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{ttl: 10 * time.Second}
		k := New(Config{Ask: s.ask})
		defer k.Close()
		ask := func(name string, want int32) {
			t.Helper()
			k.Answer(t.Context(), question(t, name))
			synctest.Wait()
			if n := s.asked.Load(); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		}
		ask("a.example", 1)
		time.Sleep(sweepEvery / 2)
		ask("b.example", 2)
		time.Sleep(10 * time.Second) // now a is swept away, and b in a while
		s.code = dnsmessage.ServFail
		ask("b.example", 3)
		ask("b.example", 3)
	})
}

// Without a link what has expired is given at once for a minute; with one, when there is no answer in time.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		linked := true
		s := &source{ttl: 10 * time.Second}
		k := New(Config{Ask: s.ask, Stale: time.Minute, Linked: func() bool { return linked }})
		defer k.Close()
		q := question(t, "a.example")
		ask := func(why string, wantStale bool, wantWait time.Duration) {
			t.Helper()
			start := time.Now()
			a, _, err := k.Answer(t.Context(), q)
			synctest.Wait()
			stale := false
			if err == nil {
				a.Addrs(func(_ netip.Addr, ttl time.Duration) { stale = ttl == staleTTL*time.Second })
			}
			if stale != wantStale || time.Since(start) != wantWait || !wantStale && err == nil && s.err != nil {
				t.Errorf("%s: stale %v after %v, %v", why, stale, time.Since(start), err)
			}
		}
		ask("new", false, 0)
		time.Sleep(10 * time.Second)
		linked, s.delay = false, time.Hour
		ask("no link", true, 0)
		time.Sleep(6 * time.Second) // the question has been given up
		linked = true
		ask("slow", true, patience)
		time.Sleep(6 * time.Second)
		s.delay, s.err = 0, errors.New("broken")
		ask("an error", true, 0)
		s.err, s.code = nil, dnsmessage.ServFail
		ask("a failure", true, 0)
		s.code = 0
		ask("there again", false, 0)
		time.Sleep(70*time.Second + sweepEvery)
		if n := kept(k); n != 0 {
			t.Errorf("%d kept", n)
		}
		linked, s.err = false, errors.New("broken")
		ask("too old", false, 0)
	})
}

func TestAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{ttl: time.Minute, delay: time.Second}
		k := New(Config{Ask: s.ask, Asking: 2})
		defer k.Close()
		q := question(t, "a.example")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, _, err := k.Answer(t.Context(), q); err != nil {
					t.Error(err)
				}
			})
		}
		// Who cannot wait takes nobody else with them.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, _, err := k.Answer(ctx, q); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		wg.Wait()
		if n := s.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		// When nobody waits any more the question ends.
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, _, err := k.Answer(ctx, question(t, "b.example")); err == nil {
			t.Error("answered early")
		}
		synctest.Wait()
		if n := s.ended.Load(); n != 2 {
			t.Errorf("%d questions ended", n)
		}
		// And there are no more than so many.
		for i := range 2 {
			wg.Go(func() { k.Answer(t.Context(), question(t, fmt.Sprint("c", i))) })
		}
		synctest.Wait()
		if _, _, err := k.Answer(t.Context(), question(t, "d")); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		k.Close()
		wg.Wait()
		if _, _, err := k.Answer(t.Context(), q); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{ttl: time.Minute}
		k := New(Config{Ask: s.ask, Entries: 100})
		defer k.Close()
		for i := range 1000 {
			k.Answer(t.Context(), question(t, fmt.Sprint(i)))
			k.Answer(t.Context(), question(t, "0")) // what is asked for again and again stays
		}
		if n := kept(k); n != 100 || s.asked.Load() != 1000 {
			t.Errorf("%d kept, asked %d times", n, s.asked.Load())
		}
		k.cfg.Bytes = 10 * 500
		for i := range 100 {
			k.Answer(t.Context(), question(t, fmt.Sprint("x", i)))
		}
		if n := kept(k); n > 11 || n < 5 {
			t.Errorf("%d kept", n)
		}
	})
}
