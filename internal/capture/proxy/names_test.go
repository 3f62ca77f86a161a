package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// book is a resolver that takes its time and remembers what it was asked.
type book struct {
	takes  time.Duration
	before []netip.Addr // addresses that come before addr's
	addr   func(name string) (netip.Addr, error)

	mu    sync.Mutex
	asked []string
}

func (b *book) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	b.mu.Lock()
	b.asked = append(b.asked, name)
	b.mu.Unlock()
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a, err := b.addr(name)
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(b.before), a), nil
}

// outcome is what became of the datagrams given to names, in order.
type outcome struct {
	n       *names // whose lock guards the rest
	sent    []string
	dropped int
}

func (o *outcome) get() (sent []string, dropped int) {
	synctest.Wait()
	o.n.mu.Lock()
	defer o.n.mu.Unlock()
	return slices.Clone(o.sent), o.dropped
}

// inBubble runs f with names over b.
func inBubble(t *testing.T, b *book, f func(t *testing.T, n *names, o *outcome)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outcome{}
		o.n = &names{
			resolver: b,
			dropped:  func() { o.dropped++ },
			out: func(p []byte, to netip.AddrPort) error {
				if to.Addr().Is6() {
					return flow.Errorf(flow.CodeNetUnreach, "no IPv6 here")
				}
				o.sent = append(o.sent, fmt.Sprintf("%s→%s", p, to))
				return nil
			},
		}
		f(t, o.n, o)
		o.n.wait()
	})
}

func always(addr string) func(string) (netip.Addr, error) {
	return func(string) (netip.Addr, error) { return netip.MustParseAddr(addr), nil }
}

func TestNamesKeepOrder(t *testing.T) {
	inBubble(t, &book{takes: time.Second, addr: always("192.0.2.1")}, func(t *testing.T, n *names, o *outcome) {
		buf := []byte("a")
		n.send(t.Context(), "x.example", 1, buf)
		buf[0] = 'b' // the caller's buffer is used again
		n.send(t.Context(), "x.example", 2, buf)
		if sent, _ := o.get(); len(sent) != 0 {
			t.Errorf("sent before the lookup: %v", sent)
		}
		n.wait()
		n.send(t.Context(), "x.example", 1, []byte("c"))
		want := []string{"a→192.0.2.1:1", "b→192.0.2.1:2", "c→192.0.2.1:1"}
		if sent, dropped := o.get(); !slices.Equal(sent, want) || dropped != 0 {
			t.Errorf("sent %v, %d dropped", sent, dropped)
		}
	})
}

// TestNamesSkipFamily: a tunnel without IPv6 uses the IPv4 address, though the resolver prefers the other.
func TestNamesSkipFamily(t *testing.T) {
	b := &book{
		takes: time.Second, addr: always("192.0.2.1"),
		before: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
	}
	inBubble(t, b, func(t *testing.T, n *names, o *outcome) {
		n.send(t.Context(), "x.example", 1, []byte("a"))
		n.send(t.Context(), "x.example", 2, []byte("b"))
		n.wait()
		n.send(t.Context(), "x.example", 3, []byte("c"))
		want := []string{"a→192.0.2.1:1", "b→192.0.2.1:2", "c→192.0.2.1:3"}
		if sent, dropped := o.get(); !slices.Equal(sent, want) || dropped != 0 {
			t.Errorf("sent %v, %d dropped", sent, dropped)
		}
	})
	six := &book{addr: always("2001:db8::1")}
	t.Run("only IPv6", func(t *testing.T) {
		inBubble(t, six, func(t *testing.T, n *names, o *outcome) {
			n.send(t.Context(), "x.example", 1, []byte("a"))
			n.wait()
			if sent, dropped := o.get(); len(sent) != 0 || dropped != 1 {
				t.Errorf("sent %v, %d dropped", sent, dropped)
			}
		})
	})
}

// TestNamesStay: a name in use keeps its address, one not used for a while or used for very long is looked up again.
func TestNamesStay(t *testing.T) {
	calls := 0
	b := &book{}
	b.addr = func(string) (netip.Addr, error) {
		calls++
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(calls)}), nil
	}
	inBubble(t, b, func(t *testing.T, n *names, o *outcome) {
		use := func() {
			n.send(t.Context(), "x.example", 1, []byte("x"))
			synctest.Wait()
		}
		for begun := time.Now(); time.Since(begun) < nameLongest; time.Sleep(nameIdle / 2) {
			use()
		}
		if calls != 1 {
			t.Errorf("%d lookups while in use", calls)
		}
		use()
		if calls != 2 {
			t.Errorf("%d lookups after %v", calls, nameLongest)
		}
		time.Sleep(nameIdle)
		use()
		if sent, _ := o.get(); calls != 3 || sent[len(sent)-1] != "x→192.0.2.3:1" {
			t.Errorf("%d lookups after idling, sent %v", calls, sent[len(sent)-1])
		}
	})
}

func TestNamesFailOnlyForAMoment(t *testing.T) {
	fail := true
	b := &book{addr: func(string) (netip.Addr, error) {
		if fail {
			return netip.Addr{}, errors.New("not now")
		}
		return netip.MustParseAddr("192.0.2.1"), nil
	}}
	inBubble(t, b, func(t *testing.T, n *names, o *outcome) {
		for range 3 {
			n.send(t.Context(), "x.example", 1, []byte("x"))
			synctest.Wait()
		}
		if _, dropped := o.get(); len(b.asked) != 1 || dropped != 3 {
			t.Errorf("asked %v, dropped %d", b.asked, dropped)
		}
		fail = false
		time.Sleep(nameFailed)
		n.send(t.Context(), "x.example", 1, []byte("x"))
		if sent, _ := o.get(); len(sent) != 1 {
			t.Errorf("sent %v", sent)
		}
	})
}

func TestNamesAreBounded(t *testing.T) {
	inBubble(t, &book{takes: time.Second, addr: always("192.0.2.1")}, func(t *testing.T, n *names, o *outcome) {
		// More names at once than may be looked up.
		for i := range maxLookups + 5 {
			n.send(t.Context(), fmt.Sprintf("%d.example", i), 1, []byte("x"))
		}
		if _, dropped := o.get(); dropped != 5 {
			t.Errorf("%d dropped, want 5", dropped)
		}
		n.wait()

		// More datagrams for one name, and more bytes, than may wait.
		o.dropped, o.sent = 0, nil
		for range maxHeldPerName + 3 {
			n.send(t.Context(), "many.example", 1, []byte("x"))
		}
		n.send(t.Context(), "big1.example", 1, make([]byte, maxHeld/2))
		n.send(t.Context(), "big2.example", 1, make([]byte, maxHeld/2))
		if _, dropped := o.get(); dropped != 3+1 {
			t.Errorf("%d dropped, want 4", dropped)
		}
		n.wait()
		if sent, _ := o.get(); len(sent) != maxHeldPerName+1 || n.held != 0 || n.pending != 0 {
			t.Errorf("%d sent, %d bytes and %d lookups left", len(sent), n.held, n.pending)
		}

		// More names over time than are remembered: the one longest unused goes.
		for i := range maxNames {
			time.Sleep(time.Millisecond)
			n.send(t.Context(), fmt.Sprintf("later%d.example", i), 1, []byte("x"))
			n.wait()
		}
		if len(n.byName) > maxNames {
			t.Errorf("%d names remembered", len(n.byName))
		}
		if _, ok := n.byName["0.example"]; ok {
			t.Error("the oldest name is still there")
		}
		if _, ok := n.byName[fmt.Sprintf("later%d.example", maxNames-1)]; !ok {
			t.Error("the newest name is not there")
		}
	})
}

func TestNamesGiveUp(t *testing.T) {
	inBubble(t, &book{takes: time.Hour, addr: always("192.0.2.1")}, func(t *testing.T, n *names, o *outcome) {
		began := time.Now()
		n.send(t.Context(), "x.example", 1, []byte("x"))
		n.wait()
		if sent, dropped := o.get(); time.Since(began) != lookupTimeout || dropped != 1 || len(sent) != 0 {
			t.Errorf("after %v: %d dropped, sent %v", time.Since(began), dropped, sent)
		}
	})
}
