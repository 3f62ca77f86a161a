package linkmodel

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// drain pops everything and returns the due times and the serial numbers carried in the frames.
func drain(l *line) (due []int64, serial []uint32) {
	for {
		p, ok := l.pop(math.MaxInt64)
		if !ok {
			return due, serial
		}
		due = append(due, p.due)
		serial = append(serial, binary.BigEndian.Uint32(p.data))
		l.left(p.due, p)
		l.free(p)
	}
}

func frame(n int, serial uint32) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, serial)
	return b
}

func TestRateSpacesFrames(t *testing.T) {
	t.Parallel()
	// 1250 bytes at 100 Mbit/s take 100 µs.
	l := newLine(Direction{Rate: 100e6, Delay: 10 * time.Millisecond, QueueTime: time.Second}, 1, 0)
	for i := range 100 {
		l.push(0, frame(1250, uint32(i)))
	}
	due, _ := drain(l)
	if len(due) != 100 {
		t.Fatalf("%d of 100 frames left", len(due))
	}
	for i, d := range due {
		if want := 10*ms + int64(i+1)*100_000; d != want {
			t.Fatalf("frame %d due at %d, want %d", i, d, want)
		}
	}
	// After an idle second the bottleneck is empty again.
	l.push(1000*ms, frame(1250, 0))
	if due, _ := drain(l); due[0] != 1010*ms+100_000 {
		t.Fatalf("frame after idle due at %d", due[0])
	}
}

func TestQueueTailDrop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		d    Direction
		want int
	}{
		{"time", Direction{Rate: 100e6, QueueTime: 50 * time.Millisecond}, 500},
		{"bytes", Direction{Rate: 100e6, QueueBytes: 62500}, 50},
		{"smaller one", Direction{Rate: 100e6, QueueTime: 50 * time.Millisecond, QueueBytes: 12500}, 10},
		{"default", Direction{Rate: 100e6}, 500},
		{"no bottleneck", Direction{QueueBytes: 1}, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLine(c.d, 1, 0)
			for i := range 2000 {
				l.push(0, frame(1250, uint32(i)))
			}
			_, serial := drain(l)
			if len(serial) != c.want {
				t.Fatalf("%d frames went through, want %d", len(serial), c.want)
			}
			if got := l.snapshot().Dropped; got != uint64(2000-c.want) {
				t.Fatalf("dropped %d, want %d", got, 2000-c.want)
			}
			for i, s := range serial {
				if int(s) != i {
					t.Fatalf("frame %d is number %d: not the tail was dropped", i, s)
				}
			}
		})
	}
}

func TestQueueDrainsAtRate(t *testing.T) {
	t.Parallel()
	// Offered twice the rate for a second: half goes through.
	l := newLine(Direction{Rate: 100e6, QueueTime: 10 * time.Millisecond}, 1, 0)
	const gap = 50_000
	for i := range 20_000 {
		l.push(int64(i)*gap, frame(1250, uint32(i)))
	}
	if due, _ := drain(l); len(due) < 10_000 || len(due) > 10_101 {
		t.Fatalf("%d frames in a second and a queue, want 10000 to 10101", len(due))
	}
}

func TestLossIsSeededAndRight(t *testing.T) {
	t.Parallel()
	const n = 100_000
	lost := func(seed, stream uint64, p float64) (uint64, []uint32) {
		l := newLine(Direction{Loss: p}, seed, stream)
		var got []uint32
		for i := range n {
			l.push(int64(i), frame(64, uint32(i)))
			_, s := drain(l)
			got = append(got, s...)
		}
		return l.snapshot().Lost, got
	}
	for _, p := range []float64{0.01, 0.03, 0.5} {
		k, _ := lost(7, 0, p)
		sigma := math.Sqrt(n * p * (1 - p))
		if math.Abs(float64(k)-n*p) > 4*sigma {
			t.Errorf("lost %d of %d at %v, more than 4 sigma off", k, n, p)
		}
	}
	k0, a := lost(7, 0, 0.01)
	k1, b := lost(7, 0, 0.01)
	_, c := lost(7, 1, 0.01)
	if k0 != k1 || len(a) != len(b) || a[len(a)/2] != b[len(b)/2] {
		t.Error("the same seed lost other frames")
	}
	if len(a) == len(c) && a[len(a)/2] == c[len(c)/2] && a[len(a)/3] == c[len(c)/3] {
		t.Error("the two directions lose the same frames")
	}
	if k, _ := lost(1, 0, 1); k != n {
		t.Errorf("loss 1 let %d through", n-k)
	}
}

func TestLostFramesUseTheRate(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{Rate: 100e6, Loss: 1, QueueTime: time.Second}, 1, 0)
	for i := range 10 {
		l.push(0, frame(1250, uint32(i)))
	}
	l.set(Direction{Rate: 100e6, QueueTime: time.Second})
	l.push(0, frame(1250, 10))
	if due, _ := drain(l); due[0] != 1_100_000 {
		t.Fatalf("due at %d, want after ten lost frames' time", due[0])
	}
}

func TestBurstsOfLoss(t *testing.T) {
	t.Parallel()
	const n = 200_000
	run := func(d Direction, seed uint64) (lost, bursts int, pattern []bool) {
		l := newLine(d, seed, 0)
		for i := range n {
			before := l.stats.Lost
			l.push(int64(i), frame(64, uint32(i)))
			gone := l.stats.Lost > before
			if gone {
				lost++
				if i == 0 || !pattern[i-1] {
					bursts++
				}
			}
			pattern = append(pattern, gone)
			drain(l)
		}
		return lost, bursts, pattern
	}
	// 1/51 of all frames are in bursts of 10 frames in the mean.
	lost, bursts, pattern := run(Direction{BurstStart: 0.002, BurstEnd: 0.1}, 3)
	if got, want := float64(lost)/n, 0.002/0.102; math.Abs(got/want-1) > 0.2 {
		t.Errorf("lost %.4f, want %.4f", got, want)
	}
	if mean := float64(lost) / float64(bursts); mean < 8.5 || mean > 11.5 {
		t.Errorf("bursts of %.1f frames, want 10", mean)
	}
	_, _, again := run(Direction{BurstStart: 0.002, BurstEnd: 0.1}, 3)
	_, _, other := run(Direction{BurstStart: 0.002, BurstEnd: 0.1}, 4)
	if !slices.Equal(pattern, again) || slices.Equal(pattern, other) {
		t.Error("the losses are not the seed's")
	}
	// Half of the frames in bursts, and one in a hundred outside of them.
	lost, _, _ = run(Direction{Loss: 0.01, BurstStart: 0.01, BurstEnd: 0.09, BurstLoss: 0.5}, 3)
	if got, want := float64(lost)/n, 0.9*0.01+0.1*0.5; math.Abs(got/want-1) > 0.1 {
		t.Errorf("lost %.4f, want %.4f", got, want)
	}
}

func TestPolicer(t *testing.T) {
	t.Parallel()
	// 16 KB at once, then 140 kbit/s, which is 17.5 bytes each ms.
	d := Direction{PoliceRate: 140_000, PoliceBurst: 16_000}
	l := newLine(d, 1, 0)
	passed := func(from, ms_ int64) (bytes int) {
		for i := range ms_ {
			l.push((from+i)*ms, frame(1000, 0))
			_, s := drain(l)
			bytes += 1000 * len(s)
		}
		return bytes
	}
	if got := passed(0, 10); got != 10_000 {
		t.Errorf("%d bytes passed in the first 10 ms, want all", got)
	}
	if got := passed(10, 990); got < 22_000 || got > 24_000 {
		t.Errorf("%d bytes passed in the rest of a second, want 6 kB and 17.5", got)
	}
	// Whoever is quiet for long has the burst again, and no more.
	if got := passed(100_000, 20); got != 16_000 {
		t.Errorf("%d bytes passed after a pause, want the burst", got)
	}
	if s := l.snapshot(); s.Policed != s.Frames-s.Sent {
		t.Errorf("stats %+v", s)
	}
	l.set(Direction{})
	if got := passed(200_000, 50); got != 50_000 {
		t.Errorf("%d of 50000 bytes passed when nobody polices", got)
	}
	l.set(d)
	if got := passed(201_000, 20); got != 16_000 {
		t.Errorf("%d bytes passed a new policer, want a full bucket", got)
	}
}

func TestJitterKeepsOrder(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond}, 3, 0)
	for i := range 1000 {
		l.push(int64(i)*100_000, frame(64, uint32(i)))
	}
	due, serial := drain(l)
	spread := false
	for i := range serial {
		if int(serial[i]) != i {
			t.Fatalf("frame %d is number %d", i, serial[i])
		}
		wait := due[i] - int64(i)*100_000
		if wait < 10*ms || wait > 15*ms {
			t.Fatalf("frame %d waited %d ns", i, wait)
		}
		spread = spread || wait > 12*ms
	}
	if !spread {
		t.Fatal("no jitter seen")
	}
}

func TestReorderAndDuplicate(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{Delay: time.Millisecond, Reorder: 0.1, ReorderBy: time.Millisecond, Duplicate: 0.1}, 3, 0)
	const n = 10_000
	for i := range n {
		l.push(int64(i)*100_000, frame(64, uint32(i)))
	}
	due, serial := drain(l)
	for i := 1; i < len(due); i++ {
		if due[i] < due[i-1] {
			t.Fatalf("frame %d leaves before its predecessor", i)
		}
	}
	overtaken := 0
	for i := 1; i < len(serial); i++ {
		if serial[i] < serial[i-1] {
			overtaken++
		}
	}
	s := l.snapshot()
	if s.Duplicated < n/10-150 || s.Duplicated > n/10+150 || len(due) != n+int(s.Duplicated) {
		t.Errorf("%d duplicates, %d frames left", s.Duplicated, len(due))
	}
	if overtaken < n/20 {
		t.Errorf("only %d frames overtaken of %d held back", overtaken, s.Reordered)
	}
}

func TestOversizeIsCounted(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{}, 1, 0)
	l.push(0, make([]byte, 9000))
	if s := l.snapshot(); s.Oversize != 1 || s.Faithful() {
		t.Fatalf("stats %+v", s)
	}
	if _, ok := l.pop(math.MaxInt64); ok {
		t.Fatal("an oversize frame was carried")
	}
}

func TestPopWaitsForDue(t *testing.T) {
	t.Parallel()
	l := newLine(Direction{Delay: 10 * time.Millisecond}, 1, 0)
	l.push(5*ms, frame(64, 1))
	if _, ok := l.pop(15*ms - 1); ok {
		t.Fatal("left early")
	}
	if due, ok := l.next(); !ok || due != 15*ms {
		t.Fatalf("next due %d %v", due, ok)
	}
	p, ok := l.pop(15 * ms)
	if !ok {
		t.Fatal("did not leave when due")
	}
	l.left(15*ms+300_000, p)
	if s := l.snapshot(); s.LateMaxus != 300 || s.LateP50us != 511 {
		t.Fatalf("lateness %d max %d p50", s.LateMaxus, s.LateP50us)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Symmetric(Direction{Delay: 100 * time.Millisecond, Rate: 1e8, Loss: 0.01}, 1)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, d := range map[string]Direction{
		"loss 1.5":      {Loss: 1.5},
		"loss NaN":      {Loss: math.NaN()},
		"delay -1":      {Delay: -1},
		"delay 1h":      {Delay: time.Hour},
		"rate -1":       {Rate: -1},
		"rate 10":       {Rate: 10},
		"queue_bytes":   {QueueBytes: -1},
		"reorder":       {Reorder: 0.1},
		"duplicate":     {Duplicate: 2},
		"jitter":        {Jitter: -1},
		"queue_time":    {QueueTime: -1},
		"burst_start 2": {BurstStart: 2, BurstEnd: 1},
		"burst_start w": {BurstStart: 0.1},
		"burst_end":     {BurstEnd: 0.1},
		"burst_loss":    {BurstStart: 0.1, BurstEnd: 0.1, BurstLoss: -1},
		"police_rate":   {PoliceRate: 10, PoliceBurst: 2000},
		"police_burst":  {PoliceRate: 10_000},
		"police_burst ": {PoliceBurst: 2000},
		"mtu 100":       {MTU: 100},
		"mtu 9000":      {MTU: 9000},
	} {
		spec := Spec{Backward: d}
		if err := spec.Validate(); err == nil || !strings.HasPrefix(err.Error(), "backward: "+field) {
			t.Errorf("%s: %+v gave %v", field, d, err)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	l := newLine(Direction{Rate: 1e9, Delay: 100 * time.Millisecond, Loss: 0.01, QueueTime: 50 * time.Millisecond}, 1, 0)
	f := frame(1514, 1)
	now := int64(0)
	for b.Loop() {
		now += 12_200
		l.push(now, f)
		for {
			p, ok := l.pop(now)
			if !ok {
				break
			}
			l.left(now, p)
			l.free(p)
		}
	}
}

func TestPushLaterArrivesInItsTurn(t *testing.T) {
	t.Parallel()
	// 1250 bytes at 100 Mbit/s take 100 µs.
	l := newLine(Direction{Rate: 100e6, Delay: time.Millisecond}, 1, 0)
	l.pushLater(300_000, frame(1250, 2))
	l.pushLater(200_000, frame(1250, 1))
	l.push(100_000, frame(1250, 0))
	if at, ok := l.next(); !ok || at != 200_000 {
		t.Fatalf("next at %d %v, want the arrival of the first that waits", at, ok)
	}
	if s := l.snapshot(); s.InFlight != 3 || s.Frames != 3 {
		t.Fatalf("stats %+v", s)
	}
	l.push(250_000, frame(1250, 3)) // the one of 200 µs is ahead of it, and still on the bottleneck
	due, serial := drain(l)
	for i, want := range []struct {
		due    int64
		serial uint32
	}{{1_200_000, 0}, {1_300_000, 1}, {1_400_000, 3}, {1_500_000, 2}} {
		if due[i] != want.due || serial[i] != want.serial {
			t.Fatalf("left at %v: %v", due, serial)
		}
	}
	if s := l.snapshot(); s.InFlight != 0 || s.Sent != 4 {
		t.Fatalf("stats %+v", s)
	}
}
