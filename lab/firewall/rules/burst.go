package rules

import (
	"errors"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// Burst looks for several TLS handshakes at nearly the same time from one client to one network, with the same name and the
// same fingerprint, and swallows the next ones for a while. Connections that are through their handshake are left alone.
//
// Russia, 2025-11 on ("Siberian"): more than 3, less than 350 to 400 ms from one to the next, within about 60 s, and new
// ones are swallowed for about 120 s; other names begin anew, an empty SNI does not count, Chrome's fingerprint does and
// Edge's does not (a series of tests told at habr.com 1044396; hyperion-cs/dpi-checkers, whose detector opens 4 at once).
// Early on it were 12 to 24, towards Russian servers too, for about 60 s (net4people/bbs 546). The counting between is our
// reading: those within Spacing of the one before count, and so does that one before.
type Burst struct {
	To          Nets  `toml:"to"`
	ExceptTo    Nets  `toml:"except-to"`
	ExceptNames Names `toml:"except-names"`
	Ports       []int `toml:"ports"` // empty is every port
	// JA4 lists the fingerprints it is about, each may end in "*"; empty is all.
	JA4 []string `toml:"ja4"`
	// Subnet and Subnet6 are how long the prefixes are that count as one destination; zero is 24 and 48.
	Subnet  int `toml:"subnet"`
	Subnet6 int `toml:"subnet6"`
	// Over is how many are still borne; zero is 3.
	Over int `toml:"over"`
	// Spacing is below what distance two are "nearly at the same time", drawn each time; zero is 350ms..400ms.
	Spacing Span `toml:"spacing"`
	// Within is how long one is remembered; zero is 60 s. For is how long new ones are swallowed; zero is 120 s.
	Within Dur  `toml:"within"`
	For    Span `toml:"for"`
	// Extend begins that time anew with each one that comes meanwhile.
	Extend bool `toml:"extend"`

	seen  map[burstKey]*burst
	swept time.Duration
}

type burstKey struct {
	client    netip.Addr
	server    netip.Prefix
	name, ja4 string
}

type burst struct {
	last   time.Duration   // the last handshake
	paired bool            // it is among near
	near   []time.Duration // those with another near, oldest first
	until  time.Duration   // new ones are swallowed
}

func (r *Burst) check(place firewall.Place) error {
	switch {
	case place != firewall.InPath:
		return wrong("for", "a box that sees a copy cannot swallow a handshake")
	case r.Over < 0:
		return wrong("over", "%d is no number of handshakes", r.Over)
	case r.Subnet < 0 || r.Subnet > 32:
		return wrong("subnet", "%d is no length of an IPv4 prefix", r.Subnet)
	case r.Subnet6 < 0 || r.Subnet6 > 128:
		return wrong("subnet6", "%d is no length of an IPv6 prefix", r.Subnet6)
	}
	return nil
}

// Watch waits for a ClientHello.
func (r *Burst) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !f.FromInside || !r.To.Covers(f.Server.Addr()) || r.ExceptTo.Has(f.Server.Addr()) ||
		!portIn(r.Ports, f.Server.Port()) {
		return nil
	}
	return &burstLook{rule: r}
}

type burstLook struct {
	rule      *Burst
	swallowed bool
}

// Packet implements firewall.Watcher.
func (w *burstLook) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if w.swallowed {
		do.Drop()
		return
	}
	if !p.FromClient || len(p.Payload) == 0 {
		return
	}
	text := do.Text()
	if len(text) == 0 {
		return
	}
	hello, err := look.ClientHello(text, true)
	if errors.Is(err, look.ErrMore) {
		return
	}
	if err != nil || !w.rule.count(f, p.At, hello, do) {
		do.Done()
		return
	}
	w.swallowed = true
	do.Drop()
}

// count takes a handshake in, and reports whether it is to be swallowed.
func (r *Burst) count(f *firewall.Flow, now time.Duration, hello *clienthello.Hello, do *firewall.Action) bool {
	name, ja4 := look.ServerName(hello), hello.JA4()
	if name == "" || r.ExceptNames.Match(name) != "" || len(r.JA4) > 0 && !inJA4(r.JA4, ja4) {
		return false
	}
	bits := or(r.Subnet, 24)
	if f.Server.Addr().Is6() {
		bits = or(r.Subnet6, 48)
	}
	within, ban, spacing := or(time.Duration(r.Within), time.Minute), r.For, r.Spacing
	if ban == (Span{}) {
		ban = Span{120 * time.Second, 120 * time.Second}
	}
	if spacing == (Span{}) {
		spacing = Span{350 * ms, 400 * ms}
	}
	net, _ := f.Server.Addr().Prefix(bits)
	b := r.at(burstKey{f.Client.Addr(), net, name, ja4}, now, within)
	if now < b.until {
		if r.Extend {
			b.until = now + f.Between(ban.Low, ban.High)
		}
		do.Fired("a handshake while new ones are swallowed, fingerprint %s", ja4)
		return true
	}
	for len(b.near) > 0 && now-b.near[0] > within {
		b.near = b.near[1:]
	}
	paired := b.last != 0 && now-b.last < f.Between(spacing.Low, spacing.High)
	if paired {
		if !b.paired {
			b.near = append(b.near, b.last)
		}
		b.near = append(b.near, now)
	}
	b.last, b.paired = now, paired
	if len(b.near) <= or(r.Over, 3) {
		return false
	}
	do.Fired("%d handshakes at nearly the same time, fingerprint %s", len(b.near), ja4)
	*b = burst{until: now + f.Between(ban.Low, ban.High)}
	return true
}

// at finds what is known of handshakes of a kind, and forgets what is old.
func (r *Burst) at(k burstKey, now, within time.Duration) *burst {
	if r.seen == nil {
		r.seen = make(map[burstKey]*burst)
	}
	if b := r.seen[k]; b != nil {
		return b
	}
	if now > r.swept+time.Minute || len(r.seen) >= maxHeld {
		r.swept = now
		for k, b := range r.seen {
			if now >= b.until && now-b.last > within {
				delete(r.seen, k)
			}
		}
	}
	b := &burst{}
	if len(r.seen) < maxHeld {
		r.seen[k] = b
	}
	return b
}
