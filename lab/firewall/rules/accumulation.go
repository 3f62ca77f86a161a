package rules

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Accumulation adds up what single connections do not say: how many of an endpoint's were suspicious, and how much an
// address carries.
//
// Wails et al., NDSS 2024: a classifier of single flows, wrong now and then, and a count for each address and port are
// without any false positive after 38 flows or fewer (theirs is a neural network; here other rules of the same box are the
// first stage): flows = 38, of = ["tls-in-tls"]. Alaraj et al., 2025: proxies' addresses in Iran are blocked in proportion to
// the connections they get: each = 0.001. Volume: in China port 443 is blocked a day after about 20 GB (net4people/bbs 129);
// in Turkmenistan any address after 20 to 150 GB, in hours to weeks, even if nobody answers (net4people/bbs 523):
// volume = 20000000000, then = { block = "endpoint", wait = "24h" }.
type Accumulation struct {
	To     Nets  `toml:"to"`
	Except Nets  `toml:"except"`
	Ports  []int `toml:"ports"` // empty is every port
	// Of lists rules of this box: what they find is suspicious. Empty is every connection.
	Of []string `toml:"of"`
	// Flows is at how many suspicious ones of an endpoint it acts; zero does not count. Within is how long each is remembered
	// at least, zero is for ever.
	Flows  int `toml:"flows"`
	Within Dur `toml:"within"`
	// Each is how likely each suspicious connection leads to the act by itself.
	Each float64 `toml:"each"`
	// Volume is at how many bytes of an address in a day it acts, both directions together, whoever they are for; zero does
	// not count. VolumeOfPort counts by endpoint instead.
	Volume       int  `toml:"volume"`
	VolumeOfPort bool `toml:"volume-of-port"`
	Then         Then `toml:"then"`

	ends  map[netip.AddrPort]*endCount
	swept time.Duration
}

// endCount is what is known of an endpoint, or of an address if its port is zero.
type endCount struct {
	last  time.Duration
	begin time.Duration // of counting flows
	flows int
	today dayCount
}

func (r *Accumulation) check(place firewall.Place) error {
	switch {
	case r.Flows < 0:
		return wrong("flows", "%d is no number of connections", r.Flows)
	case r.Volume < 0:
		return wrong("volume", "%d is no number of bytes", r.Volume)
	case r.Flows == 0 && r.Volume == 0 && r.Each == 0:
		return wrong("flows", "nothing is set: it wants flows, each or volume")
	case r.Within != 0 && r.Flows == 0:
		return wrong("within", "is about flows, which are not counted")
	}
	return errors.Join(chance("each", r.Each), r.Then.check(place))
}

// Watch counts for as long as the connection lives.
func (r *Accumulation) Watch(f *firewall.Flow) firewall.Watcher {
	a := f.Server.Addr()
	if f.Proto != firewall.TCP && f.Proto != firewall.UDP || !f.FromInside || local(a) || !r.To.Covers(a) || r.Except.Has(a) ||
		!portIn(r.Ports, f.Server.Port()) {
		return nil
	}
	w := &counted{rule: r, end: r.end(f.Server, f.Began)}
	w.volume = w.end
	if !r.VolumeOfPort {
		w.volume = r.end(netip.AddrPortFrom(a, 0), f.Began)
	}
	return w
}

// end finds what is known, and forgets who was not seen for two days.
func (r *Accumulation) end(a netip.AddrPort, now time.Duration) *endCount {
	c := r.ends[a]
	if c == nil {
		if r.ends == nil {
			r.ends = make(map[netip.AddrPort]*endCount)
		}
		if now > r.swept+time.Hour || len(r.ends) >= maxHeld {
			r.swept = now
			for a, c := range r.ends {
				if c.today.over(c.last+24*time.Hour) && now-c.last > max(48*time.Hour, time.Duration(r.Within)) {
					delete(r.ends, a)
				}
			}
		}
		c = &endCount{begin: now, today: dayCount{begin: now}}
		if len(r.ends) < maxHeld {
			r.ends[a] = c
		}
	}
	c.last = now
	return c
}

type counted struct {
	rule        *Accumulation
	end, volume *endCount
	suspected   bool
}

// Packet implements firewall.Watcher.
func (w *counted) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if !w.suspected && (len(r.Of) == 0 || slices.ContainsFunc(r.Of, f.Found)) {
		w.suspected = true
		c := w.end
		if r.Within != 0 && p.At-c.begin > time.Duration(r.Within) {
			c.begin, c.flows = p.At, 0
		}
		c.flows++
		if r.Flows > 0 && c.flows == r.Flows {
			r.Then.do(f, do, "%d suspicious connections to one endpoint", c.flows)
			c.begin, c.flows = p.At, 0
		}
		if r.Each > 0 && f.Chance(r.Each) {
			r.Then.do(f, do, "one suspicious connection drew the lot of %g", r.Each)
		}
	}
	if r.Volume > 0 {
		w.volume.last = p.At
		if w.volume.today.add(p.At, p.Size, r.Volume) {
			r.Then.do(f, do, "%d bytes in a day", w.volume.today.n)
		}
	} else if w.suspected {
		do.Done()
	}
}
