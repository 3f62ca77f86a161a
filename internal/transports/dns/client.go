package dns

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/transport"
)

// A way is how a resolver can be used: which records it passes on, how many of them, under how long names.
type way struct {
	mode uint16
	size int
	long bool // names as long as allowed; otherwise short ones
}

// ways are all that are tried, the best first. Short names are for networks that drop long ones and, as they have one
// label, for resolvers that ask for one label after another and take the first no (RFC 9156).
var ways = []way{
	{dns.TypeTXT, maxMessage, true},
	{dns.TypeTXT, minMessage, true},
	{dns.TypeTXT, maxMessage, false},
	{dns.TypeTXT, minMessage, false},
	{dns.TypeCNAME, minMessage, true},
	{dns.TypeNULL, minMessage, true},
	{dns.TypeAAAA, minMessage, false},
	{dns.TypeA, minMessage, false},
}

// channel is a resolver, a zone, and the way between them.
type channel struct {
	dnsclient.Exchanger
	zone    string
	key     *key
	way     way
	longest int        // name
	rate    rate.Limit // at most; the limiter's is lower while many queries get no answer
	limiter *rate.Limiter
	asked   *atomic.Int64
}

// names is how long names are at most.
func (c *channel) names() int {
	if c.way.long {
		return c.longest
	}
	label := maxLabel + 1 + len(c.zone)
	if len(c.zone) <= maxShortZone {
		label = min(label, ShortName)
	}
	return min(c.longest, label)
}

// maxShortZone is how long a zone can be for names of ShortName to hold something.
const maxShortZone = 32

// upSegment and downSegment are what fits whatever else is said.
func (c *channel) upSegment() int {
	return nameRoom(c.names(), c.zone) - tagLen - queryHead - 1 - packetHead - pushHead
}

func (c *channel) downSegment() int {
	n := answerRoom(c.way.mode, minMessage, c.names(), true, c.zone) - tagLen - answerHead - packetHead - pushHead
	return min(n, maxDownSegment) / segmentUnit * segmentUnit
}

// maxDownSegment bounds what is lost with one segment of several in an answer.
const maxDownSegment = 300

func (c *channel) works() bool { return c.upSegment() >= minSegment && c.downSegment() >= minSegment }

// ask asks one question and returns what the answer holds.
func (c *channel) ask(ctx context.Context, q *query) ([]byte, error) {
	sealed := c.key.seal(isQuery, nil, q.append(nil))
	tag := [tagLen]byte(sealed)
	m := new(dns.Msg).SetQuestion(string(appendName(nil, sealed, c.zone)), c.way.mode)
	if q.size > minMessage {
		m.SetEdns0(uint16(q.size), false)
	}
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	c.asked.Add(1)
	var plain []byte
	var unknown bool
	err = c.Exchange(ctx, wire, func(b []byte) dnsclient.Taken {
		var a dns.Msg
		if a.Unpack(b) != nil || !a.Response || len(a.Question) != 1 || a.Question[0].Qtype != c.way.mode ||
			!strings.EqualFold(a.Question[0].Name, m.Question[0].Name) {
			return dnsclient.NotOurs
		}
		if a.Truncated && q.kind == kindProbe {
			return dnsclient.Failed // every answer would have to be asked for twice
		}
		if a.Truncated {
			return dnsclient.Truncated
		}
		if a.Rcode == dns.RcodeNameError {
			unknown = true
			return dnsclient.Failed
		}
		held, err := parseAnswer(c.way.mode, a.Answer, c.zone)
		if err != nil {
			return dnsclient.Failed
		}
		if plain, err = c.key.open(isAnswer, tag[:], held); err != nil || len(plain) < answerHead {
			plain = nil
			return dnsclient.Failed
		}
		return dnsclient.Ours
	})
	if err != nil && unknown {
		err = errUnknown
	}
	return plain, err
}

// tunnel is the client's end of a session: when it asks, and what.
//
//	something to say, or to acknowledge      at once, as the rate allows
//	answers bring data                       one more question under way than before, up to mostAsking
//	an empty answer                          half as many, at least one; then pauses that grow to 5 s
//	no answer                                one, after a pause
type tunnel struct {
	*conn
	*channel
	session uint32
	kicked  chan struct{} // there is something to say: room for one, as the runner looks at everything
	ended   chan struct{} // closed when the runner has gone

	// Guarded by conn.mu.
	nonce    uint16
	size     int // of answers
	heard    bool
	last     time.Time // when something came, or the beginning
	active   time.Time // when there was something to do
	asking   int       // questions under way
	want     int       // how many are good to have
	next     time.Time // the next question that says nothing
	pause    time.Time // no question before that
	failures int       // in a row
	unknown  int       // how many of them were for names that are not there
	trip     time.Duration
	slowed   time.Time // when the rate was last lowered
}

const (
	mostAsking = 32
	// silence is how long a resolver may answer nothing until the session is given up.
	silence = 20 * time.Second
	// firstSilence is the same before the first answer: what worked the last time works no more.
	firstSilence = 5 * time.Second
	// lively is how long after the last byte one asks without a pause.
	lively    = 2 * time.Second
	idlePause = 5 * time.Second
	// leaveTime is how long what was written before Close is still tried to be sent, and farewellTime the same for the
	// word that the client has gone.
	leaveTime    = time.Second
	farewellTime = 300 * time.Millisecond
	// A question is given up after a second and four round trips, within these.
	leastPatience = 2 * time.Second
	mostPatience  = 5 * time.Second
	// Resolvers limit what one machine may ask: a query without an answer takes a fifth off the rate, not more often than
	// every slowGap, and every answer puts half a query a second back.
	slowGap   = 500 * time.Millisecond
	leastRate = 5
	// mostUnsaid is how much waits to be asked: two seconds' worth.
	mostUnsaid = 8 << 10
)

// newTunnel begins a session. Its exchanger is closed with it.
func newTunnel(c *channel, session uint32) *tunnel {
	now := time.Now()
	t := &tunnel{
		conn: newConn(c.upSegment(), maxWindow, mostUnsaid, addr(c.zone), addr(c.zone)), channel: c, session: session & 0xffffff,
		kicked: make(chan struct{}, 1), ended: make(chan struct{}), size: c.way.size, last: now, active: now, want: 1, trip: firstTrip,
	}
	t.kick = func() {
		t.active, t.next = time.Now(), time.Time{}
		signal(t.kicked)
	}
	go t.run()
	return t
}

// run asks until the session has ended.
func (t *tunnel) run() {
	defer close(t.ended)
	ctx, cancel := context.WithCancel(context.Background())
	var answers sync.WaitGroup
	defer t.channel.Close()
	defer answers.Wait()
	defer cancel()
	var leaving time.Time
	for {
		t.mu.Lock()
		now := time.Now()
		if quiet := now.Sub(t.last); t.gone == nil && (quiet > silence || !t.heard && quiet > firstSilence) {
			t.endLocked(errSilence)
		}
		if gone := t.gone; gone != nil {
			t.mu.Unlock()
			if gone != io.EOF {
				t.farewell()
			}
			return
		}
		if t.closed {
			if leaving.IsZero() {
				leaving = now.Add(leaveTime)
			}
			if !t.arq.unacked() || now.After(leaving) {
				t.mu.Unlock()
				t.farewell()
				return
			}
		}
		t.arq.update()
		t.wakeLocked()
		due, wait := t.dueLocked(now)
		t.mu.Unlock()
		if due {
			if t.limiter.Wait(ctx) != nil {
				return
			}
			t.mu.Lock()
			q := t.queryLocked()
			patience := min(max(time.Second+4*t.trip, leastPatience), mostPatience)
			t.asking++
			t.mu.Unlock()
			answers.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				start := time.Now()
				plain, err := t.ask(ctx, q)
				t.answered(plain, err, time.Since(start))
			})
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-t.kicked:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// maxUnknown is how many queries have to be for names that are not there, with none between that was answered and for how
// long, until it is believed that the gateway does not know the session: anybody on the way can say so, too, and it says so
// itself of a query that comes very late.
const (
	maxUnknown  = 5
	unknownTime = 2 * time.Second
)

var errUnknown = transport.Reason("the gateway does not know the session")

var errSilence = transport.Reason("the resolver answers no more")

// dueLocked reports whether to ask now, and else when to look again.
func (t *tunnel) dueLocked(now time.Time) (bool, time.Duration) {
	wait := time.Second
	if d := t.arq.wake(); d > 0 {
		wait = d
	}
	switch {
	case t.asking >= mostAsking:
		return false, wait
	case now.Before(t.pause):
		return false, t.pause.Sub(now)
	case t.arq.pending(now):
		return true, 0
	case t.asking >= t.want:
		return false, wait
	case now.Before(t.next):
		return false, min(wait, t.next.Sub(now))
	}
	return true, 0
}

// queryLocked makes the next question.
func (t *tunnel) queryLocked() *query {
	t.nonce++
	q := &query{session: t.session, nonce: t.nonce, mode: t.way.mode, size: t.size}
	room := nameRoom(t.names(), t.zone) - tagLen - queryHead
	if !t.heard {
		q.kind, q.segment = kindOpen, t.downSegment()
		room--
	}
	q.packet = t.arq.take(time.Now(), room)
	return q
}

// answered takes the answer to a question.
func (t *tunnel) answered(plain []byte, err error, trip time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer signal(t.kicked)
	now := time.Now()
	t.asking--
	if t.gone != nil || errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		if err == errUnknown {
			t.unknown++
		}
		if t.unknown >= maxUnknown && now.Sub(t.last) > unknownTime {
			t.endLocked(errUnknown)
			return
		}
		t.failures++
		t.want = 1
		if now.Sub(t.slowed) > slowGap {
			t.slowed = now
			t.limiter.SetLimitAt(now, max(t.limiter.Limit()*4/5, leastRate))
		}
		if t.failures >= 3 { // it may be what is long that is dropped
			t.size = minMessage
			t.pause = now.Add(min(100*time.Millisecond<<min(t.failures-3, 5), 2*time.Second))
		}
		return
	}
	t.heard, t.last, t.failures, t.unknown = true, now, 0, 0
	t.trip += (trip - t.trip) / 8
	if l := t.limiter.Limit(); l < t.rate {
		t.limiter.SetLimitAt(now, min(l+0.5, t.rate))
	}
	if plain[0]&answerGone != 0 {
		t.endLocked(io.EOF)
		return
	}
	data := false
	if len(plain) > answerHead {
		data, _ = t.arq.input(plain[answerHead:])
	}
	if data || plain[0]&answerMore != 0 {
		t.active, t.next = now, time.Time{}
		t.want = min(t.want+1, mostAsking)
	} else {
		t.want = max(t.want/2, 1)
		if idle := now.Sub(t.active); idle > lively {
			t.next = now.Add(min((idle-lively)/4, idlePause))
		}
	}
	t.wakeLocked()
}

// farewell tells the gateway that the client has gone.
func (t *tunnel) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	t.mu.Lock()
	t.nonce++
	q := &query{session: t.session, nonce: t.nonce, mode: t.way.mode, size: minMessage, kind: kindClose}
	heard := t.heard
	t.mu.Unlock()
	if heard {
		t.ask(ctx, q)
	}
}
