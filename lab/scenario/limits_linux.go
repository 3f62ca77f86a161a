package scenario

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall/rules"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/weather"
)

// Limits measures what a download that takes all it can get makes of a network that lets every connection begin and none
// carry much, and how many connections that costs.
type Limits struct {
	// Rate is what each connection is policed to, in bits a second and in each direction, or all Together. Zero freezes each
	// one after 25 packets instead.
	Rate     int
	Together bool
	TUN      bool // the client's whole host is captured
	Length   time.Duration
	Seed     uint64
	Tools    *peer.Tools
	Logs     string
}

// greedy is more than any of the rates, in bytes a second.
const greedy = 2 << 20

// Name says it in words.
func (w Limits) Name() string {
	return weather.Limit{Rate: w.Rate, Together: w.Together, TUN: w.TUN}.Name()
}

// Run does it.
func (w Limits) Run(ctx context.Context) (r weather.Limit, err error) {
	r = weather.Limit{Rate: w.Rate, Together: w.Together, TUN: w.TUN, Length: w.Length}
	limit := func(now *rules.Weather) {
		if w.Rate == 0 {
			now.Set(rules.FreezeNew)
			return
		}
		now.Police(w.Rate, w.Together)
	}
	s, err := newSteady(ctx, godwitPeer(w.TUN), w.Tools, w.Seed, path, limit, w.Logs)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	begin := time.Now()
	echo, err := s.first(ctx)
	if err != nil {
		return r, err
	}
	echo.Close()
	c, err := s.open(ctx, downloadAddr, silenceIsLoss)
	if err != nil {
		return r, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, w.Length)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var got atomic.Int64
	err = download(c, order{w.Seed, 1 << 40, greedy}, w.Length, func(n int, _ time.Time) { got.Add(int64(n)) })
	if ctx.Err() == nil {
		r.Broken = err.Error()
	}
	r.Bytes, r.Dials = got.Load(), s.dials.since(begin)
	return r, nil
}
