package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall/rules"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/weather"
)

// Stalls measures how long a steady download stands still when the connection that carries it is struck.
type Stalls struct {
	Mood rules.Mood // ResetBulk, LoseConnection, LoseEndpoint or LoseAddress
	// Alone has the client keep one link instead of as many as it likes.
	Alone bool
	TUN   bool // the client's whole host is captured
	Blows int
	Seed  uint64
	Tools *peer.Tools
	Logs  string
}

// slowPath has a round trip of 100 ms.
var slowPath = linkmodel.Direction{Delay: 50 * time.Millisecond, Rate: 100e6, QueueTime: 50 * time.Millisecond}

const (
	// A blow lasts until the download goes on, and at least and at most so long.
	shortestBlow, longestBlow = 3 * time.Second, time.Minute
	// Between two of them links are made again and the dialer's memory of the last one fades a little.
	restLow, restHigh = 8 * time.Second, 12 * time.Second
)

// Run does it.
func (w Stalls) Run(ctx context.Context) (r weather.Stalls, err error) {
	name := godwitPeer(w.TUN)
	if r.TUN = w.TUN; w.Alone {
		name, r.Links = "godwit-alone", 1
	}
	r.Blow, r.RoundTrip = w.Mood.String(), slowPath.Delay*2
	s, err := newSteady(ctx, name, w.Tools, w.Seed, slowPath, nil, w.Logs)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	echo, err := s.first(ctx)
	if err != nil {
		return r, err
	}
	echo.Close()
	c, err := s.open(ctx, downloadAddr, firstVisit)
	if err != nil {
		return r, err
	}
	defer c.Close()
	var g gaps
	done := make(chan error, 1)
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		done <- download(c, order{w.Seed, 1 << 40, downloadRate}, silenceIsLoss, g.came)
		cancel()
	}()
	rng := rand.New(rand.NewPCG(w.Seed, 0))
	for len(r.Each)+r.Missed < w.Blows {
		if sleep(ctx, restLow+time.Duration(rng.Int64N(int64(restHigh-restLow)))) != nil {
			break
		}
		stall, met := s.blow(ctx, w.Mood, &g)
		switch {
		case ctx.Err() != nil:
		case met:
			r.Each = append(r.Each, stall)
		default:
			r.Missed++
		}
	}
	c.Close()
	if err := <-done; len(r.Each)+r.Missed < w.Blows && asked.Err() == nil {
		r.Broken = fmt.Sprintf("after %d blows: %v", len(r.Each)+r.Missed, err)
	}
	return r, nil
}

// blow strikes once and says how long nothing came.
func (s *steady) blow(ctx context.Context, mood rules.Mood, g *gaps) (stall time.Duration, met bool) {
	const look = 2 * time.Millisecond
	s.weather.Set(mood)
	defer s.weather.Set(rules.Calm)
	begin := time.Now()
	for time.Since(begin) < shortestBlow && !met && sleep(ctx, look) == nil {
		n, _ := s.weather.Met()
		met = n > 0
	}
	if !met {
		return 0, false
	}
	if mood == rules.ResetBulk {
		s.weather.Set(rules.Calm) // one is enough
	}
	struck := time.Now()
	g.watch(struck)
	for sleep(ctx, look) == nil {
		if since := time.Since(struck); since > longestBlow || since > shortestBlow && g.flows() {
			break
		}
	}
	return g.longest(), true
}

// gaps are the times between a download's arrivals.
type gaps struct {
	mu    sync.Mutex
	since time.Time // from here on they are watched
	last  time.Time
	most  time.Duration
}

func (g *gaps) came(_ int, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last.IsZero() && !g.since.IsZero() {
		g.most = max(g.most, at.Sub(g.last))
	}
	g.last = at
}

// watch begins anew.
func (g *gaps) watch(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since, g.most = at, 0
}

// flows reports whether something came just now.
func (g *gaps) flows() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.last) < 300*time.Millisecond
}

// longest is the longest one, which may not have ended.
func (g *gaps) longest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.most, time.Since(g.last))
}
