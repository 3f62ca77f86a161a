package rules

import (
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// UDPPolice makes UDP bad without forbidding it: packets are lost, long uploads are slow, and an address with a lot of it
// is marked.
//
// Iran, 2022-12: about half of UDP is lost, uploads above all; long ones are held to about 1 Mbit/s after a few seconds
// (net4people/bbs 181, 182 and 253): loss = 0.5, rate = 1000000, after = "5s", way = "to-server". It goes by port, so that
// hopping between ports helps. China: an address with much UDP is marked within hours, and then UDP from abroad is dropped on
// all of its ports, while TCP and ICMP pass (apernet/hysteria 1157): heavy = 20000000000, wait = "1h..6h"; how much is much
// is not known.
type UDPPolice struct {
	To     Nets `toml:"to"`
	Except Nets `toml:"except"`
	// Loss is how likely a packet is lost; zero is never.
	Loss float64 `toml:"loss"`
	// Rate, in bits a second, is what a flow gets after it is so old; zero is as much as it likes. Burst is in bytes; zero is
	// what the rate carries in 100 ms, and at least 3000.
	Rate  int `toml:"rate"`
	Burst int `toml:"burst"`
	After Dur `toml:"after"`
	// Way says which packets loss and rate are about.
	Way firewall.Way `toml:"way"`
	// Heavy is how many bytes to and from an address outside in a day mark it; zero marks none. Wait later, for a while (zero
	// is for ever), what it sends by UDP is dropped.
	Heavy int  `toml:"heavy"`
	Wait  Span `toml:"wait"`
	For   Span `toml:"for"`

	users map[netip.Addr]*udpUser
	swept time.Duration
}

func (r *UDPPolice) check(place firewall.Place) error {
	switch {
	case place != firewall.InPath:
		return wrong("loss", "a box that sees a copy cannot lose a packet")
	case r.Rate < 0:
		return wrong("rate", "%d is no number of bits a second", r.Rate)
	case r.Burst != 0 && r.Burst < 1500:
		return wrong("burst", "with less than 1500 bytes no full packet ever passes")
	case r.Loss == 0 && r.Rate == 0 && r.Heavy == 0:
		return wrong("loss", "nothing is set: it wants loss, rate or heavy")
	case r.Heavy < 0:
		return wrong("heavy", "%d is no number of bytes", r.Heavy)
	}
	return chance("loss", r.Loss)
}

// Watch polices for as long as the flow lives.
func (r *UDPPolice) Watch(f *firewall.Flow) firewall.Watcher {
	out := outside(f)
	if f.Proto != firewall.UDP || local(out) || !r.To.Covers(out) || r.Except.Has(out) {
		return nil
	}
	w := &policed{rule: r}
	if r.Heavy > 0 {
		w.user = r.user(out, f.Began)
	}
	return w
}

// udpUser is an address outside.
type udpUser struct {
	today       dayCount
	marked      bool
	from, until time.Duration // of the mark
}

func (r *UDPPolice) user(a netip.Addr, now time.Duration) *udpUser {
	if u := r.users[a]; u != nil {
		return u
	}
	if now > r.swept+time.Hour || len(r.users) >= maxHeld {
		r.swept = now
		for a, u := range r.users {
			if !u.marked && u.today.over(now) {
				delete(r.users, a)
			}
		}
	}
	if r.users == nil {
		r.users = make(map[netip.Addr]*udpUser)
	}
	u := &udpUser{today: dayCount{begin: now}}
	if len(r.users) < maxHeld {
		r.users[a] = u
	}
	return u
}

// drops counts a packet, and reports whether it is dropped for a mark.
func (u *udpUser) drops(r *UDPPolice, f *firewall.Flow, p *firewall.Packet, do *firewall.Action) bool {
	if u.marked && p.At >= u.until && r.For != (Span{}) {
		u.marked, u.today = false, dayCount{begin: p.At}
	}
	if !u.marked && u.today.add(p.At, p.Size, r.Heavy) {
		wait := f.Between(r.Wait.Low, r.Wait.High)
		u.marked, u.from = true, p.At+wait
		u.until = u.from + f.Between(r.For.Low, r.For.High)
		do.Fired("%d bytes of UDP in a day: marked, from %v on", u.today.n, wait)
	}
	return u.marked && p.At >= u.from && !p.Outbound
}

type policed struct {
	rule        *UDPPolice
	user        *udpUser
	full        bucket
	slow, lossy bool // told
}

// Packet implements firewall.Watcher.
func (w *policed) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if w.user != nil && w.user.drops(r, f, p, do) {
		do.Drop()
		return
	}
	if r.Way == firewall.ToServer && !p.FromClient || r.Way == firewall.ToClient && p.FromClient {
		return
	}
	if r.Loss > 0 && f.Chance(r.Loss) {
		if !w.lossy {
			w.lossy = true
			do.Fired("%.0f %% of packets are lost", 100*r.Loss)
		}
		do.Drop()
		return
	}
	if r.Rate > 0 && p.At-f.Began >= time.Duration(r.After) &&
		!w.full.take(p.At, p.Size, r.Rate, or(r.Burst, max(3000, r.Rate/80))) {
		if !w.slow {
			w.slow = true
			do.Fired("policed at %d bit/s", r.Rate)
		}
		do.Drop()
	}
}

// dayCount counts within a day.
type dayCount struct {
	begin time.Duration
	n     int
}

func (c *dayCount) over(now time.Duration) bool { return now-c.begin > 24*time.Hour }

// add counts n more, and reports whether that made it the limit.
func (c *dayCount) add(now time.Duration, n, limit int) bool {
	if c.over(now) {
		*c = dayCount{begin: now}
	}
	c.n += n
	return c.n >= limit && c.n-n < limit
}
