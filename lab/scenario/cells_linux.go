package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// run is one run of a cell.
type run struct {
	verdict survival.Verdict
	note    string
	fetch   traffic.Result // the one that counted
	strikes int
	capture string // a file's name
	rules   map[string]int
	first   string
}

// through starts a peer in a country and calls use with how to fetch through it.
func (c *country) through(ctx context.Context, p peer.Peer, use func(base traffic.Fetch) run) (r run) {
	site := c.peerSite()
	gateway, err := p.Gateway(ctx, site)
	if err != nil {
		return run{verdict: survival.None, note: "its gateway does not start: " + err.Error()}
	}
	defer gateway.Stop()
	if err := c.sameKind(ctx, p, site); err != nil {
		return run{verdict: survival.None, note: err.Error()}
	}
	client, err := p.Client(ctx, site)
	if err != nil && ctx.Err() == nil {
		// Some clients are up only once they are connected: what stops them may be the firewall.
		rules, first := c.firedOn(clientAddr, c.gateways)
		if len(rules) > 0 {
			return run{verdict: survival.Blocked, note: err.Error(), rules: rules, first: first}
		}
		return run{verdict: survival.None, note: "its client does not start: " + err.Error()}
	}
	defer client.Stop()
	base := traffic.Fetch{Dial: c.host("client").DialContext, Proxy: p.Proxy(), Silence: 30 * time.Second}
	if base.Proxy == "" && client != nil && !peer.TakesNames(p) {
		base.Addr = bannedAddr // through a tunnel, which the name does not matter to
	}
	r = use(base)
	ends := c.gateways
	if client == nil {
		ends = []netip.Addr{bannedAddr, resolverAddr, dnsAddr}
	}
	r.rules, r.first = c.firedOn(clientAddr, ends)
	for _, end := range []*peer.Process{client, gateway} {
		if end == nil {
			continue
		}
		if died := end.Died(); died != nil {
			r.note = strings.TrimPrefix(r.note+"; "+died.Error(), "; ")
		} else if r.verdict != survival.Passes && r.note == "" {
			r.note = end.LastWords()
		}
	}
	return r
}

// visit opens a page and one of its larger parts.
func (c *country) visit(ctx context.Context, base traffic.Fetch) traffic.Result {
	if base.Proxy == "" && !base.Addr.IsValid() { // the name has to be asked for, by the tunnel or the country's network
		addr, err := c.lookup(ctx, c.host("client"), resolverAddr, banned)
		if err != nil {
			return traffic.Result{Err: "look up: " + err.Error()}
		}
		base.Addr = addr
	}
	page := base
	page.URL, page.Timeout = "https://"+banned+"/", c.visitTimeout()
	if r := page.Do(ctx); !r.OK() {
		return r
	}
	part := base
	part.URL, part.Bytes, part.Seed, part.Timeout = "https://"+banned+"/file/300000?seed=5", 300000, 5, time.Minute
	return part.Do(ctx)
}

// visitTimeout is how long one waits for a page; for a part of it, which may come through something slow, a minute. A firewall that slows down is not to pass for one that blocks.
func (c *country) visitTimeout() time.Duration {
	if c.profile.LeastRate > 0 {
		return time.Minute
	}
	return 20 * time.Second
}

// When a site is visited.
var visits = []time.Duration{0, 8 * time.Second, 16 * time.Second}

// firstVisit is how long a client may take to find its way the first time.
const firstVisit = 30 * time.Second

// reach opens a banned site from inside, three times; the last one counts, and its rate where the profile sets one.
func (c *country) reach(ctx context.Context, p peer.Peer) run {
	return c.through(ctx, p, func(base traffic.Fetch) run {
		begin := time.Now()
		var last traffic.Result
		for i, at := range visits {
			if err := sleep(ctx, time.Until(begin.Add(at))); err != nil {
				return run{verdict: survival.None, note: err.Error()}
			}
			last = c.visit(ctx, base)
			for i == 0 && !last.OK() && time.Since(begin) < firstVisit && ctx.Err() == nil {
				if sleep(ctx, time.Second) != nil {
					break
				}
				last = c.visit(ctx, base)
			}
			if i == 0 {
				if !last.OK() {
					break // nobody waits longer
				}
				begin = time.Now().Add(-visits[0])
			}
		}
		if !last.OK() {
			return run{verdict: survival.Blocked, fetch: last, note: last.Err}
		}
		if rate := float64(last.Bytes) * 8 / last.Took.Seconds(); rate < float64(c.profile.LeastRate) {
			return run{verdict: survival.Degraded, fetch: last, note: fmt.Sprintf("slow: %d bytes at %.0f kbit/s", last.Bytes, rate/1000)}
		}
		return run{verdict: survival.Passes, fetch: last}
	})
}

// What hold downloads, and when it is struck.
const (
	holdBytes  = 200 << 20
	firstBlow  = 3 * time.Second
	laterBlows = 10 * time.Second
	holdLimit  = 4 * time.Minute
)

// hold downloads a file while the connection that carries the most is struck again and again.
func (c *country) hold(ctx context.Context, p peer.Peer, bytes int64) run {
	if c.firewall.Strike == nil {
		return run{verdict: survival.None, note: "the profile has no worst rule: its table hold is missing"}
	}
	return c.through(ctx, p, func(base traffic.Fetch) run {
		begin := time.Now()
		for r := c.visit(ctx, base); !r.OK(); r = c.visit(ctx, base) {
			if time.Since(begin) > firstVisit || ctx.Err() != nil {
				return run{verdict: survival.Blocked, fetch: r, note: "before the download: " + r.Err}
			}
			if err := sleep(ctx, time.Second); err != nil {
				return run{verdict: survival.None, note: err.Error()}
			}
		}
		struck, stop := context.WithCancel(ctx)
		defer stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for wait := firstBlow; sleep(struck, wait) == nil; wait = laterBlows {
				c.firewall.Strike.Arm()
			}
		}()
		file := base
		file.URL, file.Bytes, file.Seed, file.Timeout = fmt.Sprintf("https://%s/file/%d?seed=9", banned, bytes), bytes, 9, holdLimit
		if base.Proxy == "" && !base.Addr.IsValid() {
			file.Addr = bannedAddr
		}
		res := file.Do(ctx)
		stop()
		<-done
		r := run{verdict: survival.Blocked, fetch: res, note: res.Err, strikes: c.firewall.Strike.Struck()}
		switch {
		case res.Right && r.strikes == 0:
			r.verdict, r.note = survival.None, "it was over before it was struck"
		case res.Right:
			r.verdict = survival.Passes
		}
		return r
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}
