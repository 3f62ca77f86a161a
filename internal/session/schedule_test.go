package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/wire"
)

var seedFlag = flag.Uint64("seed", 0, "run only the kill schedule with this seed, and tell what happens in it")

// TestKillSchedules runs random schedules in which links are cut in every way a firewall knows while streams of every
// kind are under way. Every byte must arrive once and in order, or the stream must end with an error at both ends;
// memory must stay inside its bounds and be given back. A failure names its seed: run it again with -seed.
func TestKillSchedules(t *testing.T) {
	n := 1000
	if v, err := strconv.Atoi(os.Getenv("GODWIT_SCHEDULES")); err == nil {
		n = v
	} else if testing.Short() {
		n = 50
	}
	if *seedFlag != 0 {
		synctest.Test(t, func(t *testing.T) { newSchedule(t, *seedFlag, true).run() })
		return
	}
	streams, faults := 0, 0
	for seed := uint64(1); seed <= uint64(n); seed++ {
		ok := t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sc := newSchedule(t, seed, false)
				sc.run()
				streams += len(sc.results)
				faults += sc.faults
			})
		})
		if !ok {
			t.Fatalf("the schedule with seed %d failed: go test -run TestKillSchedules -seed %d", seed, seed)
		}
	}
	t.Logf("%d schedules, %d streams, %d faults", n, streams, faults)
}

// schedule is one random run: a client that keeps redialling, streams, and a firewall.
type schedule struct {
	*pair
	seed    uint64
	verbose bool
	begun   time.Time
	want    int // links
	dials   sync.WaitGroup
	path    simPath

	mu      sync.Mutex
	results map[int]*streamResult
	outage  time.Time // no dial succeeds before
	faults  int
	over    bool
}

// streamResult is what the two ends of one stream came to.
type streamResult struct {
	plan            streamPlan
	client, gateway endResult
}

type endResult struct {
	done bool
	got  int
	err  error // nil: the far side's end was read
}

// streamPlan is what a stream does; it crosses as the stream's first bytes.
type streamPlan struct {
	Index    uint32
	Wait     uint32 // milliseconds before it is opened
	Dial     uint32 // milliseconds that the gateway's dial takes
	Up, Down uint32 // bytes each way
	Refuse   bool   // the gateway refuses it
	ResetUp  uint32 // the client resets after so many bytes, if not 0
	ResetDn  uint32 // likewise the gateway
	Slow     uint32 // the readers pause so many milliseconds every 64 KiB
	Early    bool
	UpFirst  bool // the gateway answers only after it has read all
}

const planLen = 4*8 + 3

func (p streamPlan) append(b []byte) []byte { b, _ = binary.Append(b, binary.BigEndian, p); return b }

func newSchedule(t *testing.T, seed uint64, verbose bool) *schedule {
	sc := &schedule{seed: seed, verbose: verbose, begun: time.Now(),
		results: make(map[int]*streamResult)}
	rng := sc.rand(planner)
	sc.pair = newShapedPair(t, shape.Level(seed%3), sc.serve)
	sc.want = 1 + rng.IntN(3)
	sc.path = simPath{
		delay:    time.Duration(1+rng.IntN(150)) * time.Millisecond,
		rate:     []float64{100e3, 1e6, 10e6}[rng.IntN(3)],
		blocking: rng.IntN(4) == 0,
		measured: rng.IntN(2) == 0,
		losses:   []float64{0, 0.02}[rng.IntN(2)],
	}
	return sc
}

// rand makes the source of one actor's choices, so that they do not depend on who comes first.
func (sc *schedule) rand(actor int) *rand.Rand { return rand.New(rand.NewPCG(sc.seed, uint64(actor))) }

// The actors beside the streams, whose numbers are their indices.
const (
	firewall = -1 - iota
	planner
)

func (sc *schedule) logf(format string, args ...any) {
	if sc.verbose {
		sc.t.Logf("%10.3fs %s", time.Since(sc.begun).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (sc *schedule) run() {
	t := sc.t
	sc.logf("want %d links, %+v", sc.want, sc.path)
	stop := make(chan struct{})
	var helpers, streams sync.WaitGroup
	helpers.Go(func() { sc.redial(stop) })
	helpers.Go(func() { sc.harm(stop) })
	helpers.Go(func() { sc.watchMemory(stop) })
	count := 2 + sc.rand(planner).IntN(30)
	if sc.seed%97 == 0 {
		count = 1500
	}
	for i := range count {
		sc.results[i] = &streamResult{plan: sc.plan(i)}
	}
	for i := range count {
		plan := sc.results[i].plan
		wait := time.Duration(plan.Wait) * time.Millisecond
		streams.Go(func() {
			time.Sleep(wait)
			sc.open(plan)
		})
	}
	done := make(chan struct{})
	go func() { streams.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(4 * time.Hour):
		for i, r := range sc.results {
			if !r.client.done {
				t.Errorf("stream %d hangs: %+v", i, r.plan)
			}
		}
		t.Errorf("client %+v\ngateway %+v", sc.client.Status(), sc.gateway.Status())
	}
	for over := false; !over; { // the far side may still have to hear of the end
		time.Sleep(time.Minute)
		sc.mu.Lock()
		over = time.Since(sc.outage) > time.Minute
		sc.mu.Unlock()
	}
	close(stop)
	helpers.Wait()
	sc.dials.Wait()
	sc.mu.Lock()
	sc.over = true
	sc.check()
	sc.mu.Unlock()
	for _, l := range sc.links {
		l.reset()
	}
	sc.client.Close(flow.CodeLocalShutdown)
	sc.gateway.Close(flow.CodeLocalShutdown)
	synctest.Wait()
	if n := sc.pool.Used(); n != 0 {
		t.Errorf("%d bytes are still held after the end", n)
	}
}

func (sc *schedule) plan(i int) streamPlan {
	rng := sc.rand(i)
	size := func() uint32 {
		n := uint32(1) << rng.IntN(19)
		return n + uint32(rng.IntN(int(n))) - 1
	}
	p := streamPlan{Index: uint32(i), Up: size(), Down: size(), Early: rng.IntN(2) == 0, UpFirst: rng.IntN(3) == 0,
		Wait: uint32(rng.IntN(5000)), Dial: uint32(rng.IntN(50))}
	if sc.seed%97 == 0 {
		p.Up, p.Down = p.Up%2000, p.Down%2000
	}
	switch rng.IntN(12) {
	case 0:
		p.Refuse = true
	case 1:
		p.ResetUp = 1 + uint32(rng.IntN(int(p.Up)+1))
	case 2:
		p.ResetDn = 1 + uint32(rng.IntN(int(p.Down)+1))
	case 3:
		p.Slow = uint32(rng.IntN(500))
	}
	return p
}

// open runs the client's end of a stream.
func (sc *schedule) open(p streamPlan) {
	r := sc.results[int(p.Index)]
	host := "ok.example"
	if p.Refuse {
		host = "refused.example"
	}
	s, err := sc.client.Open(sc.t.Context(), flow.Target{Host: host, Port: 443}, p.Early)
	if err != nil {
		sc.finish(&r.client, 0, err)
		return
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		if _, err := s.Write(p.append(nil)); err == nil {
			sc.send(s, p, p.Up, p.ResetUp, 1)
		}
	})
	got, err := sc.receive(s, p, p.Down, 2)
	sc.finish(&r.client, got, err)
	writer.Wait()
}

// serve runs the gateway's end of a stream.
func (sc *schedule) serve(st *Stream, target flow.Target) {
	if target.Host == "refused.example" {
		st.Answer(flow.Errorf(flow.CodeRefused, "no"))
		return
	}
	st.Answer(nil)
	head := make([]byte, planLen)
	if _, err := io.ReadFull(st, head); err != nil {
		st.Reset(flow.CodeReset)
		return
	}
	var p streamPlan
	if _, err := binary.Decode(head, binary.BigEndian, &p); err != nil {
		sc.t.Error(err)
	}
	time.Sleep(time.Duration(p.Dial) * time.Millisecond)
	r := sc.results[int(p.Index)]
	var writer sync.WaitGroup
	read := make(chan struct{})
	writer.Go(func() {
		if p.UpFirst {
			<-read
		}
		sc.send(st, p, p.Down, p.ResetDn, 2)
	})
	got, err := sc.receive(st, p, p.Up, 1)
	sc.finish(&r.gateway, got, err)
	close(read)
	writer.Wait()
}

func (sc *schedule) send(s flow.Stream, p streamPlan, n, reset uint32, way byte) {
	content := pattern(int(n), byte(p.Index)*3+way)
	if reset > 0 {
		if _, err := s.Write(content[:reset-1]); err == nil {
			s.Reset(flow.CodeReset)
		}
		return
	}
	if _, err := s.Write(content); err == nil {
		s.(*Stream).CloseWrite()
	}
}

// receive reads to the end and checks every byte.
func (sc *schedule) receive(s flow.Stream, p streamPlan, n uint32, way byte) (int, error) {
	want := pattern(int(n), byte(p.Index)*3+way)
	buf := make([]byte, 64<<10)
	got := 0
	for {
		m, err := s.Read(buf)
		if got+m > len(want) || !bytes.Equal(buf[:m], want[got:got+m]) {
			sc.t.Errorf("stream %d: wrong bytes at %d", p.Index, got)
			return got, errors.New("wrong bytes")
		}
		got += m
		if err == io.EOF {
			return got, nil
		} else if err != nil {
			return got, err
		}
		if p.Slow > 0 && got>>16 != (got-m)>>16 {
			time.Sleep(time.Duration(p.Slow) * time.Millisecond)
		}
	}
}

func (sc *schedule) finish(e *endResult, got int, err error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.over {
		return
	}
	e.done, e.got, e.err = true, got, err
}

// check compares what the ends came to with what was planned.
func (sc *schedule) check() {
	for i, r := range sc.results {
		p := r.plan
		switch {
		case p.Refuse:
			if flow.CodeOf(r.client.err) != flow.CodeRefused {
				sc.t.Errorf("stream %d: refused, and the client saw %v", i, r.client.err)
			}
		case p.ResetUp > 0 || p.ResetDn > 0:
			// Whoever did not have everything yet must have seen an error.
			if r.client.err == nil && r.client.got != int(p.Down) || r.gateway.done && r.gateway.err == nil && r.gateway.got != int(p.Up) {
				sc.t.Errorf("stream %d: reset, and an end saw a clean end too early: %+v", i, *r)
			}
		default:
			if r.client.err != nil || r.client.got != int(p.Down) || r.gateway.err != nil || r.gateway.got != int(p.Up) {
				sc.t.Errorf("stream %d: %+v\nclient %+v\ngateway %+v", i, *r, sc.client.Status(), sc.gateway.Status())
			}
		}
	}
}

// redial keeps as many healthy links as wanted, with at least 450 ms between dials.
func (sc *schedule) redial(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(450 * time.Millisecond):
		}
		healthy := 0
		for _, l := range sc.client.Status().Links {
			if !l.Suspected && !l.Draining {
				healthy++
			}
		}
		sc.mu.Lock()
		out := time.Now().Before(sc.outage)
		sc.mu.Unlock()
		if healthy < sc.want && !out {
			sc.dial()
		}
	}
}

// dial makes a link as the real one is made: the client sends at once, the gateway hears of it half a round trip
// later, and says how far it came before anything else.
func (sc *schedule) dial() {
	link := newSimLink(sc.path)
	c, g := link.conns(sc.path)
	sc.mu.Lock()
	sc.links = append(sc.links, link)
	sc.mu.Unlock()
	next := sc.client.Next()
	_, err := sc.client.Attach(c, LinkOptions{Transport: "sim", RTT: 2 * sc.path.delay,
		Handshake: func(typ wire.Type, body []byte) (uint64, error) {
			if typ != wire.TypeWelcome {
				return 0, errors.New("no welcome")
			}
			w, err := wire.ParseWelcome(body)
			return w.Next, err
		}})
	if err != nil {
		return
	}
	sc.dials.Go(func() {
		time.Sleep(sc.path.delay)
		if link.up.gone() || link.down.gone() {
			return // the gateway never heard of it
		}
		w := testWelcome
		w.Next = sc.gateway.Next()
		link.down.put(wire.AppendWelcome(nil, w))
		sc.gateway.Attach(g, LinkOptions{Transport: "sim", RTT: 2 * sc.path.delay, Confirmed: true, PeerNext: next})
	})
}

var testWelcome = wire.Welcome{Version: 1, Addr4: netip.AddrFrom4([4]byte{10, 64, 0, 2}), Addr6: netip.MustParseAddr("fd00::2"), Window: DefaultWindow}

// harm does to random links what firewalls do, for the first 20 seconds.
func (sc *schedule) harm(stop chan struct{}) {
	rng := sc.rand(firewall)
	for time.Since(sc.begun) < 20*time.Second {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.IntN(2000)) * time.Millisecond):
		}
		sc.mu.Lock()
		if len(sc.links) == 0 {
			sc.mu.Unlock()
			continue
		}
		sc.faults++
		l := sc.links[max(0, len(sc.links)-1-rng.IntN(3))]
		sc.mu.Unlock()
		switch k := rng.IntN(12); k {
		case 0, 1:
			sc.logf("reset")
			l.reset()
		case 2:
			sc.logf("fin")
			l.up.close(io.EOF)
			l.down.close(io.EOF)
		case 3, 4:
			sc.logf("black hole")
			l.blackHole()
		case 5:
			sc.logf("black hole up")
			l.up.swallowAfter(0)
		case 6:
			sc.logf("black hole down")
			l.down.swallowAfter(0)
		case 7:
			sc.logf("freeze after 16 KiB")
			l.up.swallowAfter(16 << 10)
			l.down.swallowAfter(16 << 10)
		case 8:
			sc.logf("slow to 10 kbit/s")
			l.up.setRate(1250)
			l.down.setRate(1250)
		case 9:
			sc.logf("both ends close")
			l.client.Close()
			l.gateway.Close()
		case 10:
			sc.logf("retire")
			if links := sc.client.Status().Links; len(links) > 0 {
				links[0].Link.Retire()
			}
		case 11:
			d := time.Duration(rng.IntN(60)) * time.Second
			if rng.IntN(8) == 0 {
				d = DefaultGrace / 2
			}
			sc.logf("outage of %v", d)
			sc.mu.Lock()
			sc.outage = time.Now().Add(d)
			links := sc.links
			sc.mu.Unlock()
			for _, l := range links {
				if rng.IntN(2) == 0 {
					l.reset()
				} else {
					l.blackHole()
				}
			}
		}
	}
}

func (sc *schedule) watchMemory(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(500 * time.Millisecond):
		}
		for _, s := range []*Session{sc.client, sc.gateway} {
			if st := s.Status(); st.Held+st.Reassembly > MaxSessionMemory+wire.MaxFrame {
				sc.t.Errorf("a session holds %d bytes", st.Held+st.Reassembly)
			}
		}
	}
}

// A young link's acknowledgements are of various lengths, as no tunnel's are that firewalls know by them; an older one's are as
// short as they can be.
func TestYoungLinksLengths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo)
		p.attach(fast)
		s := p.client
		write := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			l := s.links[0]
			b := batchPool.Get().(*batch)
			defer batchPool.Put(b)
			b.reset()
			l.ackNow = true
			l.fillLocked(b, time.Now())
			return b.size
		}
		seen := map[int]int{}
		for range disguises {
			n := write()
			if seen[n]++; seen[n] > disguises/6 {
				t.Errorf("%d of %d writes are of %d bytes", seen[n], disguises, n)
			}
		}
		if len(seen) < disguises/3 {
			t.Errorf("%d writes have %d lengths", disguises, len(seen))
		}
		short := write()
		if n := write(); n != short || n > 40 {
			t.Errorf("later writes are of %d and %d bytes", short, n)
		}
		p.close()
	})
}
