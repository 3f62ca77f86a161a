// Package bbr decides how fast a QUIC connection sends: it measures how much the path delivers and how long it is, and
// keeps about that much on its way, whatever is lost. It is BBR (draft-ietf-ccwg-bbr) as its first version is known from
// kernels and browsers, with the second one's shorter look at the round trip, so its traffic looks like theirs.
//
//	startup ── the rate grows no more ──> drain ── the queue is gone ──> cruise: 1.25, 0.75, 1, 1, 1, 1, 1, 1
//	                                                                       │  ▲
//	                              no round trip as short for ten seconds   ▼  │  as soon as it was measured
//	                                                                     look: half of the window
//
// Losses do not slow it down by themselves: on the paths that it is for, some packets of a hundred are lost whatever
// anybody does. It follows what arrives, and holds back where too much is lost: whoever polices it gets less.
//
// The library's one goroutine of a connection calls it; but for PacketsLost and Hold a Controller is not safe for concurrent use.
package bbr

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sagernet/quic-go/congestion"
	"github.com/sagernet/quic-go/monotime"
)

// Name is what the world calls it.
const Name = "bbr"

type state uint8

const (
	startup state = iota
	drain
	cruise
	look
)

const (
	startupGain = 2.77 // 4·ln 2: the rate doubles every round trip
	windowGain  = 2.0
	// margin is left of the measured rate, so that a queue of others' or of our mistakes shrinks.
	margin = 0.99

	// A rate that grows by less than a quarter in three rounds is the path's. So is one that did not grow in a round that
	// lost too much.
	growth     = 1.25
	flatRounds = 3

	// A round that loses more than this is not the path's way: a queue is full, or somebody polices. Then less is put on its
	// way, step by step, though never less than the path holds by what it delivers; and slowly more again.
	tooLossy     = 0.08
	fewLost      = 10 // packets: less may be chance
	lessen       = 0.7
	recover      = 1.05
	recoverEvery = 50 * time.Millisecond // and no more often than once a round

	rateRounds  = 10               // how long the highest rate counts
	rttLasts    = 10 * time.Second // how long the shortest round trip counts
	lookLasts   = 200 * time.Millisecond
	lookGain    = 0.5
	aboutAsLong = 1.125 // a round trip that is longer by less needs no look

	// slack is on its way on top of what the path holds: processors are not always there when packets are. On a short path
	// it is most of the window, on a long one it is nothing.
	slack = 10 * time.Millisecond

	initialWindow = 32 // packets, as browsers' servers have it
	leastWindow   = 4

	// A burst is what may leave at once: timers are not finer, and many packets in one system call cost less.
	burstTime  = 2 * time.Millisecond
	leastBurst = 10 // packets
	unknownRTT = 100 * time.Millisecond
	leastTimer = time.Millisecond
)

// cycle are the gains of the pacing while cruising, one for each shortest round trip.
var cycle = [...]float64{1.25, 0.75, 1, 1, 1, 1, 1, 1}

// Controller controls one connection. It implements congestion.CongestionControlEx.
type Controller struct {
	rtt  congestion.RTTStatsProvider
	size congestion.ByteCount // of a packet

	sent sentPackets

	// What was delivered (draft-cheng-iccrg-delivery-rate-estimation).
	delivered   int64 // bytes
	deliveredAt monotime.Time
	firstSent   monotime.Time // of the packets that the next sample is of
	limited     int64         // until more is delivered, the application sends less than it might; 0: it does not
	lost        int64         // bytes
	packetsLost atomic.Uint64

	round      int64 // how many round trips
	busyRounds int64 // those in which the application was not what limited
	roundEnds  int64 // when so much is delivered
	roundLost  int64 // what lost and delivered were when the round began
	roundBegan int64

	rate    maxima // bytes per second, in the last busy rounds: who sends little learns nothing of the path
	extra   maxima // bytes that came acknowledged on top of the rate's
	since   monotime.Time
	counted int64 // acknowledged since then

	least   time.Duration // the shortest round trip, and when it was measured
	leastAt monotime.Time
	// The shortest of this half of that time and of the one before, and when this one began.
	recent, earlier time.Duration
	recentAt        monotime.Time

	state     state
	full      bool // the path's rate was reached
	best      float64
	flat      int
	phase     int
	phaseAt   monotime.Time
	lookUntil monotime.Time
	before    congestion.ByteCount // the window before the look

	window  congestion.ByteCount
	ceiling congestion.ByteCount // of the window, since rounds lost too much; 0: none
	// ceilingAt is when it was set.
	ceilingAt monotime.Time
	pacing    float64 // bytes per second
	gain      float64

	held atomic.Bool

	// The pacer is a bucket.
	budget congestion.ByteCount
	last   monotime.Time
}

var _ congestion.CongestionControlEx = (*Controller)(nil)

// New makes one for a connection whose packets have that size at first.
func New(size congestion.ByteCount) *Controller {
	c := &Controller{size: size, gain: startupGain}
	c.window = initialWindow * size
	c.budget = leastBurst * size
	return c
}

// SetRTTStatsProvider implements congestion.CongestionControl.
func (c *Controller) SetRTTStatsProvider(p congestion.RTTStatsProvider) {
	c.rtt = p
	rtt := p.SmoothedRTT()
	if rtt <= 0 {
		rtt = unknownRTT
	}
	c.pacing = startupGain * float64(c.window) / rtt.Seconds()
}

// SetMaxDatagramSize implements congestion.CongestionControl.
func (c *Controller) SetMaxDatagramSize(size congestion.ByteCount) {
	c.size = size
	c.window = max(c.window, leastWindow*size)
}

// OnPacketSent implements congestion.CongestionControl.
func (c *Controller) OnPacketSent(now monotime.Time, inFlight congestion.ByteCount, number congestion.PacketNumber,
	bytes congestion.ByteCount, eliciting bool) {
	if !eliciting { // an acknowledgement alone, which is not ours to hold back
		return
	}
	available := c.available(now)
	if available >= c.burst() {
		c.OnAppLimited(inFlight)
	}
	c.budget, c.last = max(0, available-bytes), now
	if inFlight == 0 || c.deliveredAt.IsZero() { // a new train
		c.firstSent, c.deliveredAt = now, now
	}
	c.sent.add(packet{number: number, at: now, delivered: c.delivered, deliveredAt: c.deliveredAt, firstSent: c.firstSent,
		limited: c.limited > 0})
}

// PacketsLost is how many were. Anybody may ask.
func (c *Controller) PacketsLost() uint64 { return c.packetsLost.Load() }

// OnAppLimited implements congestion.CongestionControlEx: there was nothing to send for a while. That matters if little
// is on its way: who is late for a moment, but keeps the path full, is not limited by that.
func (c *Controller) OnAppLimited(inFlight congestion.ByteCount) {
	if inFlight < c.window/4 {
		c.limited = max(1, c.delivered+int64(inFlight))
	}
}

// OnPacketNeutered implements congestion.CongestionControlEx.
func (c *Controller) OnPacketNeutered(number congestion.PacketNumber) { c.sent.take(number) }

// OnPacketsLost implements congestion.CongestionControlEx: none before this one will be heard of again.
func (c *Controller) OnPacketsLost(least congestion.PacketNumber) { c.sent.forget(least) }

// OnCongestionEventEx implements congestion.CongestionControlEx.
func (c *Controller) OnCongestionEventEx(prior congestion.ByteCount, now monotime.Time,
	acked []congestion.AckedPacketInfo, lost []congestion.LostPacketInfo) {
	inFlight := prior
	for _, l := range lost {
		c.sent.take(l.PacketNumber)
		c.lost += int64(l.BytesLost)
		c.packetsLost.Add(1)
		inFlight -= l.BytesLost
	}
	// The sample is of the packet that was sent last.
	var newest packet
	var bytes congestion.ByteCount
	for _, a := range acked {
		bytes += a.BytesAcked
		if p, ok := c.sent.take(a.PacketNumber); ok && (newest.at.IsZero() || p.number > newest.number) {
			newest = p
		}
	}
	inFlight = max(0, inFlight-bytes)
	if bytes == 0 {
		return
	}
	c.delivered += int64(bytes)
	c.deliveredAt = now
	if c.delivered > c.limited {
		c.limited = 0
	}
	began := false
	if !newest.at.IsZero() {
		c.firstSent = newest.at
		if began = newest.delivered >= c.roundEnds; began {
			c.round++
			c.roundEnds = c.delivered
			if !newest.limited {
				c.busyRounds++
			}
		}
		c.measure(newest, now)
	}
	c.aggregate(bytes, now)
	if began {
		c.endRound(!newest.limited, now)
	}
	c.step(inFlight, now)
	c.set(bytes)
}

// measure takes the sample of a packet.
func (c *Controller) measure(p packet, now monotime.Time) {
	rtt := now.Sub(p.at)
	c.shortest(rtt, now)
	// Packets cannot have arrived faster than they were sent, nor than they were acknowledged.
	took := max(c.firstSent.Sub(p.firstSent), now.Sub(p.deliveredAt))
	if took <= 0 || took < c.least {
		return
	}
	rate := float64(c.delivered-p.delivered) / took.Seconds()
	if !p.limited || rate >= c.rate.max(c.busyRounds) {
		c.rate.add(c.busyRounds, rate)
	}
}

// shortest keeps the shortest round trip.
func (c *Controller) shortest(rtt time.Duration, now monotime.Time) {
	if rtt <= 0 {
		return
	}
	switch {
	case c.recent == 0:
		c.recent, c.earlier, c.recentAt = rtt, rtt, now
	case now.Sub(c.recentAt) > rttLasts/2:
		c.recent, c.earlier, c.recentAt = rtt, c.recent, now
	default:
		c.recent = min(c.recent, rtt)
	}
	lately := min(c.recent, c.earlier)
	switch {
	case c.least == 0 || rtt <= c.least:
		c.least, c.leastAt = rtt, now
	case now.Sub(c.leastAt) > rttLasts && float64(lately) <= float64(c.least)*aboutAsLong:
		c.least, c.leastAt = lately, now // about the same: no look is needed
	}
}

// aggregate measures how many more bytes come acknowledged at once than the rate has: on radio links many do.
func (c *Controller) aggregate(bytes congestion.ByteCount, now monotime.Time) {
	expected := int64(c.rate.max(c.busyRounds) * now.Sub(c.since).Seconds())
	if c.since.IsZero() || c.counted <= expected {
		c.since, c.counted, expected = now, 0, 0
	}
	c.counted += int64(bytes)
	extra := min(c.counted-expected, int64(c.window))
	c.extra.add(c.round, float64(extra))
}

// endRound looks whether the rate still grows.
func (c *Controller) endRound(unlimited bool, now monotime.Time) {
	lost, delivered := c.lost-c.roundLost, c.delivered-c.roundBegan
	c.roundLost, c.roundBegan = c.lost, c.delivered
	lossy := lost > fewLost*int64(c.size) && float64(lost) > tooLossy*float64(lost+delivered)
	if c.full {
		switch {
		case lossy:
			c.ceiling, c.ceilingAt = max(c.path(1), leastWindow*c.size, congestion.ByteCount(lessen*float64(c.window))), now
		case c.ceiling > 0 && now.Sub(c.ceilingAt) > recoverEvery:
			c.ceiling, c.ceilingAt = congestion.ByteCount(recover*float64(c.ceiling)), now
		}
		return
	}
	switch rate := c.rate.max(c.busyRounds); {
	case rate >= c.best*growth:
		c.best, c.flat = rate, 0
	case lossy:
		c.full = true
	case unlimited:
		c.flat++
		c.full = c.flat >= flatRounds
	}
}

// step moves on to the next state, or phase.
func (c *Controller) step(inFlight congestion.ByteCount, now monotime.Time) {
	if c.state == startup && c.full {
		c.state = drain
	}
	if c.state == drain && inFlight <= c.path(1) {
		c.cruise(now)
	}
	if c.state == cruise {
		past := now.Sub(c.phaseAt) > c.least
		switch gain := cycle[c.phase]; {
		case gain > 1:
			past = past && (inFlight >= c.path(gain) || c.lost > c.roundLost || c.limited > 0)
		case gain < 1:
			past = past || inFlight <= c.path(1)
		}
		if past {
			c.phase, c.phaseAt = (c.phase+1)%len(cycle), now
		}
	}
	switch {
	case c.state == look:
		if c.lookUntil.IsZero() {
			if inFlight <= c.path(lookGain)+leastWindow*c.size {
				c.lookUntil = now.Add(max(lookLasts, c.least))
			}
		} else if now.After(c.lookUntil) {
			if c.leastAt = now; c.recent > 0 {
				c.least = c.recent
			}
			c.window = max(c.window, c.before)
			if c.full {
				c.cruise(now)
			} else {
				c.state = startup
			}
		}
	case c.least > 0 && now.Sub(c.leastAt) > rttLasts:
		c.state, c.before, c.lookUntil = look, c.window, 0
		c.recent, c.recentAt = 0, now
	}
}

// cruise begins at any phase but the one that makes room for a probe that has not been.
func (c *Controller) cruise(now monotime.Time) {
	c.state, c.phaseAt = cruise, now
	if c.phase = rand.IntN(len(cycle) - 1); c.phase > 0 {
		c.phase++
	}
}

// path is how much is on its way at a gain of what the path itself holds.
func (c *Controller) path(gain float64) congestion.ByteCount {
	rate := c.rate.max(c.busyRounds)
	if rate == 0 || c.least == 0 {
		return initialWindow * c.size
	}
	return congestion.ByteCount(gain * rate * c.least.Seconds())
}

// set sets the window and the pacing rate.
func (c *Controller) set(acked congestion.ByteCount) {
	window := windowGain
	switch c.state {
	case startup:
		c.gain = startupGain
	case drain:
		c.gain = 1 / startupGain
	case cruise:
		c.gain = cycle[c.phase]
	case look:
		c.gain, window = 1, lookGain
	}
	rate := c.rate.max(c.busyRounds) * c.gain * margin
	if rate > 0 && (c.full || rate > c.pacing) {
		c.pacing = rate
	}
	if c.state == look {
		c.window = max(c.path(window), leastWindow*c.size)
		return
	}
	spare := max(c.extra.max(c.round), c.rate.max(c.busyRounds)*slack.Seconds())
	target := c.path(window) + congestion.ByteCount(spare) + c.burst()
	if c.ceiling > target {
		c.ceiling = 0
	} else if c.ceiling > 0 {
		target = c.ceiling
	}
	if c.full {
		c.window = min(c.window+acked, target)
	} else if c.window < target || c.delivered < int64(initialWindow*c.size) {
		c.window += acked
	}
	c.window = max(c.window, leastWindow*c.size)
}

// CanSend implements congestion.CongestionControl.
func (c *Controller) CanSend(inFlight congestion.ByteCount) bool {
	return inFlight < c.window && !c.held.Load()
}

// Hold holds back what is to be sent, but for acknowledgements, or lets the next that is written take it along. Anybody
// may ask.
func (c *Controller) Hold(hold bool) { c.held.Store(hold) }

// GetCongestionWindow implements congestion.CongestionControl.
func (c *Controller) GetCongestionWindow() congestion.ByteCount { return c.window }

// burst is what may leave at once.
func (c *Controller) burst() congestion.ByteCount {
	return max(leastBurst*c.size, congestion.ByteCount(c.pacing*burstTime.Seconds()))
}

// available is what may leave now.
func (c *Controller) available(now monotime.Time) congestion.ByteCount {
	if c.last.IsZero() {
		return c.burst()
	}
	return min(c.burst(), c.budget+congestion.ByteCount(c.pacing*max(0, now.Sub(c.last)).Seconds()))
}

// HasPacingBudget implements congestion.CongestionControl.
func (c *Controller) HasPacingBudget(now monotime.Time) bool { return c.available(now) >= c.size }

// TimeUntilSend implements congestion.CongestionControl.
func (c *Controller) TimeUntilSend(congestion.ByteCount) monotime.Time {
	missing := c.size - c.budget
	if missing <= 0 || c.pacing <= 0 {
		return 0
	}
	// A byte more, so that no rounding leaves the budget short then: the library would ask again and again.
	return c.last.Add(max(leastTimer, time.Duration(float64(missing+1)/c.pacing*float64(time.Second))))
}

// InSlowStart implements congestion.CongestionControl.
func (c *Controller) InSlowStart() bool { return c.state == startup }

// InRecovery implements congestion.CongestionControl.
func (c *Controller) InRecovery() bool { return false }

// What the library calls for controllers that do not implement congestion.CongestionControlEx.

// MaybeExitSlowStart implements congestion.CongestionControl.
func (*Controller) MaybeExitSlowStart() {}

// OnPacketAcked implements congestion.CongestionControl.
func (*Controller) OnPacketAcked(congestion.PacketNumber, congestion.ByteCount, congestion.ByteCount, monotime.Time) {
}

// OnCongestionEvent implements congestion.CongestionControl.
func (*Controller) OnCongestionEvent(congestion.PacketNumber, congestion.ByteCount, congestion.ByteCount) {
}

// OnRetransmissionTimeout implements congestion.CongestionControl.
func (*Controller) OnRetransmissionTimeout(bool) {}
