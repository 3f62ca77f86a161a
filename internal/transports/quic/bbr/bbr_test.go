package bbr

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sagernet/quic-go/congestion"
	"github.com/sagernet/quic-go/monotime"
)

const size = 1250

// rtts is what the library knows before the first round trip.
type rtts struct{ congestion.RTTStatsProvider }

func (rtts) SmoothedRTT() time.Duration { return 0 }

// world is a bottleneck with a queue, and an application that has as much to send as may leave, or less.
type world struct {
	c      *Controller
	now    monotime.Time
	rate   float64 // of the bottleneck, bytes per second
	rtt    time.Duration
	queue  float64 // bytes
	loss   float64
	offers float64 // bytes per second; 0: as much as may leave

	rng      *rand.Rand
	number   congestion.PacketNumber
	inFlight congestion.ByteCount
	busy     monotime.Time
	line     []flying
	arrived  int
	dropped  int
	sentAt   monotime.Time
}

type flying struct {
	number congestion.PacketNumber
	at     monotime.Time // of the acknowledgement
	lost   bool
}

func newWorld() *world {
	w := &world{c: New(size), now: monotime.Time(time.Hour), rate: 100e6 / 8, rtt: 200 * time.Millisecond, queue: 625e3,
		rng: rand.New(rand.NewPCG(1, 2))}
	w.c.SetRTTStatsProvider(rtts{})
	return w
}

// run lets time pass, a fifth of a millisecond at once.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(200 * time.Microsecond) {
		var acked []congestion.AckedPacketInfo
		var lost []congestion.LostPacketInfo
		prior := w.inFlight
		for len(w.line) > 0 && !w.line[0].at.After(w.now) {
			p := w.line[0]
			w.line = w.line[1:]
			w.inFlight -= size
			if p.lost {
				lost = append(lost, congestion.LostPacketInfo{PacketNumber: p.number, BytesLost: size})
				continue
			}
			w.arrived += size
			acked = append(acked, congestion.AckedPacketInfo{PacketNumber: p.number, BytesAcked: size})
		}
		if acked != nil || lost != nil {
			w.c.OnCongestionEventEx(prior, w.now, acked, lost)
		}
		for w.c.CanSend(w.inFlight) && w.c.HasPacingBudget(w.now) {
			if w.offers > 0 {
				if w.now.Sub(w.sentAt).Seconds()*w.offers < size {
					break
				}
				w.sentAt = w.now
			}
			w.number++
			w.c.OnPacketSent(w.now, w.inFlight, w.number, size, true)
			w.inFlight += size
			if w.busy.Before(w.now) {
				w.busy = w.now
			}
			p := flying{number: w.number, lost: w.rng.Float64() < w.loss}
			if w.busy.Sub(w.now).Seconds()*w.rate > w.queue {
				p.lost, p.at = true, w.busy.Add(w.rtt)
				w.dropped++
			} else {
				w.busy = w.busy.Add(time.Duration(size / w.rate * 1e9))
				p.at = w.busy.Add(w.rtt)
			}
			w.line = append(w.line, p)
		}
	}
}

// share is how much of the path's rate arrives while time passes.
func (w *world) share(d time.Duration) float64 {
	before := w.arrived
	w.run(d)
	return float64(w.arrived-before) / (w.rate * d.Seconds())
}

func TestFillsThePath(t *testing.T) {
	for name, change := range map[string]func(*world){
		"clean":               func(*world) {},
		"3 % lost":            func(w *world) { w.loss = 0.03 },
		"6 % lost":            func(w *world) { w.loss = 0.06 },
		"short":               func(w *world) { w.rtt = 5 * time.Millisecond },
		"narrow":              func(w *world) { w.rate, w.queue = 1e6/8, 20e3 },
		"hardly any queue":    func(w *world) { w.queue = 30e3 },
		"a queue of a second": func(w *world) { w.queue = w.rate },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			change(w)
			w.run(8 * time.Second)
			dropped := w.dropped
			if got := w.share(20 * time.Second); got < 0.85*(1-w.loss) {
				t.Errorf("%.0f %% of the path is used", 100*got)
			}
			if w.dropped-dropped > int(0.04*w.rate*20/size) {
				t.Errorf("the queue dropped %d packets of about %d", w.dropped-dropped, int(w.rate*20/size))
			}
		})
	}
}

// It follows a path that becomes narrower, or wider: that is what tells it from who sends at a rate of his own.
func TestFollows(t *testing.T) {
	w := newWorld()
	w.run(8 * time.Second)
	w.rate, w.queue = w.rate/4, w.queue/4
	w.run(8 * time.Second)
	dropped := w.dropped
	if got := w.share(8 * time.Second); got < 0.8 {
		t.Errorf("%.0f %% of the narrower path is used", 100*got)
	}
	if most := int(0.1 * w.rate * 8 / size); w.dropped-dropped > most {
		t.Errorf("the narrower path dropped %d packets, more than %d", w.dropped-dropped, most)
	}
	w.rate, w.queue = w.rate*4, w.queue*4
	w.run(15 * time.Second)
	if got := w.share(8 * time.Second); got < 0.8 {
		t.Errorf("%.0f %% of the wider path is used", 100*got)
	}
}

// Who polices most of what is sent gets less of it.
func TestHoldsBack(t *testing.T) {
	w := newWorld()
	w.run(8 * time.Second)
	w.loss = 0.5
	w.run(20 * time.Second)
	sent := w.number
	w.run(5 * time.Second)
	if rate := float64(w.number-sent) * size / 5; rate > w.rate/4 {
		t.Errorf("it sends %.0f %% of the path's rate while half of all is lost", 100*rate/w.rate)
	}
}

// Who has little to send does not forget what the path can do.
func TestLittleToSend(t *testing.T) {
	w := newWorld()
	w.run(8 * time.Second)
	w.offers = 50_000
	w.run(60 * time.Second)
	w.offers = 0
	w.run(time.Second)
	if got := w.share(2 * time.Second); got < 0.7 {
		t.Errorf("after a minute of little %.0f %% of the path is used", 100*got)
	}
}

// Who has had little to send since the beginning, as whoever downloads, has not found the path's rate by that, however few
// of few packets were lost.
func TestLittleAtFirst(t *testing.T) {
	w := newWorld()
	w.loss, w.offers = 0.03, 50_000
	w.run(60 * time.Second)
	w.offers = 0
	w.run(3 * time.Second)
	if got := w.share(2 * time.Second); got < 0.7 {
		t.Errorf("three seconds after a minute of little %.0f %% of the path is used", 100*got)
	}
}

// The packets that are on their way are found, however many there are and whatever became of others.
func TestSentPackets(t *testing.T) {
	var s sentPackets
	there := map[congestion.PacketNumber]bool{}
	oldest, next := congestion.PacketNumber(1), congestion.PacketNumber(1)
	for range 100_000 {
		switch rand.IntN(5) {
		case 0, 1, 2:
			next += congestion.PacketNumber(1 + rand.IntN(3))
			s.add(packet{number: next, at: 1})
			there[next] = true
		case 3:
			n := oldest + congestion.PacketNumber(rand.IntN(int(next-oldest)+2))
			p, ok := s.take(n)
			if ok != there[n] || ok && p.number != n {
				t.Fatalf("packet %d: %v, and it should be %v", n, ok, there[n])
			}
			delete(there, n)
		case 4:
			if next-oldest > 300 {
				for n := oldest; n < oldest+100; n++ {
					delete(there, n)
				}
				oldest += 100
				s.forget(oldest)
			}
		}
	}
}
