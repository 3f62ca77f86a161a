package egress

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestMappingBounds(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{SessionMappings: 4, MaxMappings: 6})
	one, two, three, h := newInside(t, s), newInside(t, s), newInside(t, s), newHost(t, lo4)
	outside := make(map[uint16]netip.AddrPort)
	for port := range uint16(4) {
		one.send(4000+port, h.at, "x")
		outside[4000+port] = h.sees("x")
	}
	one.send(4000, h.at, "x") // 4001 is now the one that has been silent longest
	if from := h.sees("x"); from != outside[4000] {
		t.Errorf("seen as %v, want %v", from, outside[4000])
	}
	one.send(5000, h.at, "x")
	h.sees("x")
	if st := s.Stats(); st.Mappings != 4 || st.MappingsOpened != 5 {
		t.Errorf("counted %+v", st)
	}
	one.send(4000, h.at, "x")
	if from := h.sees("x"); from != outside[4000] {
		t.Errorf("the wrong one was closed: seen as %v, want %v", from, outside[4000])
	}

	// All sessions together: who has some makes room among its own, who has none gets none.
	two.send(4000, h.at, "a")
	two.send(4001, h.at, "b")
	h.sees("a")
	h.sees("b")
	two.send(4002, h.at, "c")
	h.sees("c")
	three.send(4000, h.at, "never seen")
	if st := s.Stats(); st.Mappings != 6 || st.MappingsRefused != 1 {
		t.Errorf("counted %+v", st)
	}
	// What a session leaves is there for others, at once.
	if err := two.sink.Close(); err != nil {
		t.Error(err)
	}
	three.send(4000, h.at, "d")
	h.sees("d")
	if st := s.Stats(); st.Mappings != 5 {
		t.Errorf("counted %+v", st)
	}
}

// A session that opens mappings without end is slowed down.
func TestMappingRate(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{SessionMappings: 8})
	in, h := newInside(t, s), newHost(t, lo4)
	start := time.Now()
	for port := range uint16(2000) {
		in.send(1000+port, h.at, "x")
	}
	most := createsPerSecond + int(createsPerSecond*time.Since(start).Seconds()) + 1
	if st := s.Stats(); int(st.MappingsOpened) > most || st.Mappings != 8 || st.MappingsOpened+st.MappingsRefused != 2000 {
		t.Errorf("counted %+v, want at most %d opened", st, most)
	}
}

func TestMappingTimeout(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	k := in.sink.(*sink)
	pass := func(d time.Duration) { s.skew.Add(int64(d)); k.sweep() }
	left := func(want int) {
		t.Helper()
		if n := s.Stats().Mappings; n != want {
			t.Errorf("%d mappings, want %d", n, want)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if (k.sweeper != nil) != (want > 0) {
			t.Errorf("sweeper is armed: %v", k.sweeper != nil)
		}
	}
	in.send(4000, h.at, "1")
	first := h.sees("1")
	pass(2*time.Minute - time.Second)
	left(1)
	in.send(4000, h.at, "2") // what leaves keeps it
	if from := h.sees("2"); from != first {
		t.Errorf("seen as %v, want %v", from, first)
	}
	pass(2*time.Minute - time.Second)
	left(1)
	h.send("3", first) // what comes does not
	in.recvUDP()
	pass(time.Second)
	left(0)
	h.send("too late", first)
	in.send(4000, h.at, "4")
	if from := h.sees("4"); from == first {
		t.Error("the same port again")
	}
	in.nothing()
	left(1)
	pass(2 * time.Minute)
	left(0)
}

func TestDNSTimeout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		out, in   int
		elsewhere bool
		timeout   time.Duration
	}{
		{"question and answer", 1, 1, false, 30 * time.Second},
		{"question without answer", 1, 0, false, 30 * time.Second},
		{"asked twice", 2, 1, false, 2 * time.Minute},
		{"two answers", 1, 2, false, 2 * time.Minute},
		{"also somewhere else", 1, 1, true, 2 * time.Minute},
	}
	for _, tt := range tests {
		m := &mapping{k: &sink{s: &Sockets{cfg: Config{MappingTimeout: 2 * time.Minute}}}}
		m.outs, m.dnsOnly = uint32(tt.out), !tt.elsewhere
		m.ins.Store(uint32(tt.in))
		if got := m.timeoutLocked(); got != tt.timeout {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.timeout)
		}
	}
	// And on real sockets, whether port 53 is meant being judged by out. Nothing needs to answer.
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	k := in.sink.(*sink)
	in.send(4001, h.at, "x") // for which the sweeper has longer
	in.send(4000, netip.AddrPortFrom(lo4, 53), "question")
	k.mu.Lock()
	if due := k.sweepAt - s.clock(); due > dnsTimeout || due < dnsTimeout-5*time.Second {
		t.Errorf("swept in %v", due)
	}
	k.mu.Unlock()
	s.skew.Add(int64(dnsTimeout))
	k.sweep()
	if st := s.Stats(); st.Mappings != 1 || st.MappingsOpened != 2 {
		t.Errorf("counted %+v", st)
	}
}

// The sweeper comes by itself.
func TestSweeperRuns(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{MappingTimeout: 20 * time.Millisecond})
	in, h := newInside(t, s), newHost(t, lo4)
	in.send(4000, h.at, "x")
	mapped := h.sees("x")
	for deadline := time.Now().Add(5 * time.Second); s.Stats().Mappings != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the mapping is still there")
		}
		time.Sleep(5 * time.Millisecond)
	}
	free(t, mapped)
}

// free waits until nobody has the port at: a socket closes when the last who uses it is done.
func free(t testing.TB, at netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still taken: %v", err)
		}
	}
}

func TestSinkClose(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	in.send(4000, h.at, "x")
	mapped := h.sees("x")
	for range 2 {
		if err := in.sink.Close(); err != nil {
			t.Error(err)
		}
	}
	k := in.sink.(*sink)
	s.mu.Lock()
	if len(k.open) != 0 || len(s.sinks) != 0 || k.sweeper != nil {
		t.Errorf("left: %d mappings, %d sinks, sweeper %v", len(k.open), len(s.sinks), k.sweeper != nil)
	}
	s.mu.Unlock()
	free(t, mapped)
	in.send(4000, h.at, "late")
	in.send(4000, netip.MustParseAddrPort("10.0.0.1:1"), "late")
	in.nothing()
	if n := s.Stats().Mappings; n != 0 {
		t.Errorf("%d mappings", n)
	}
	_ = s.Close()
	after := newInside(t, s)
	after.send(4000, h.at, "later still")
	if n := s.Stats().Mappings; n != 0 {
		t.Errorf("%d mappings after the end", n)
	}
}

// Sessions come and go while packets go both ways: for the race detector.
func TestSinksConcurrently(t *testing.T) {
	t.Parallel()
	s := newSockets(t, Config{SessionMappings: 4, MappingTimeout: 5 * time.Millisecond, FilterByAddress: true})
	h := newHost(t, lo4)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 100)
		for {
			n, from, err := h.ReadFromUDPAddrPort(b)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				return
			}
			_, _ = h.WriteToUDPAddrPort(b[:n], from)
		}
	})
	var sessions sync.WaitGroup
	for range 4 {
		sessions.Go(func() {
			for range 10 {
				in := newInside(t, s)
				for i := range uint16(50) {
					in.send(4000+i%6, h.at, "x")
				}
				time.Sleep(time.Millisecond)
				in.sink.Close()
			}
		})
	}
	sessions.Wait()
	h.Close()
	wg.Wait()
	if n := s.Stats().Mappings; n != 0 {
		t.Errorf("%d mappings", n)
	}
}

// Silent mappings are small: what they wait with is not a buffer.
func TestIdleMappingsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("opens hundreds of sockets")
	}
	const n = 400
	s := newSockets(t, Config{})
	in, h := newInside(t, s), newHost(t, lo4)
	size := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := size()
	for port := range uint16(n) {
		in.send(1000+port, h.at, "x")
		_, from := h.recv()
		h.send("y", from)
		in.recv()
	}
	if st := s.Stats(); st.Mappings != n {
		t.Fatalf("%d mappings", st.Mappings)
	}
	each := (int64(size()) - int64(before)) / n
	t.Logf("%d bytes each", each)
	if limit := int64(16 << 10); each > limit {
		t.Errorf("%d bytes each, want at most %d", each, limit)
	}
}
