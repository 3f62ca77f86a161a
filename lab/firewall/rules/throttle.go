package rules

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// Throttle polices connections in which a name is said: what is above the rate is lost, in each direction by itself.
//
// Russia, Twitter, 2021-03-10 on (Xue et al., IMC 2021, censoredplanet.org/throttling): 130 to 150 kbit/s; a picture comes
// as 16 KB in 100 ms and then nothing for nearly a second. The ClientHello counts from either side, in connections opened
// from inside. What comes first decides how much is looked at: if it is TLS, an HTTP proxy's request or SOCKS, 15 to 20
// packets more; if it is unknown and has 101 bytes or more, nothing; if it is shorter, the next. TLS records are not
// reassembled; TCP is if the box does, which then finds the hellos of today's browsers, in two segments. The state goes after 10 minutes of silence, not with a FIN or a reset, and an active connection is held
// for hours. Class SNI-III of the same boxes is rate = 5200 (600 to 700 bytes a second; Xue et al., IMC 2022), and then
// burst = 1500, the least that lets a packet through at all.
type Throttle struct {
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	To     Nets  `toml:"to"`
	// Rate is in bits a second; zero is 130000. Burst is in bytes; zero is 16384.
	Rate  int `toml:"rate"`
	Burst int `toml:"burst"`
	// More is how many packets are looked at after a first that may lead to a ClientHello; zeros are [15, 20].
	More [2]int `toml:"more"`
	// Unknown is from how many bytes on an unknown first packet ends the interest; zero is 101.
	Unknown int `toml:"unknown"`
	// Idle is after how much silence a connection is forgotten; zero is 10 minutes.
	Idle Dur `toml:"idle"`

	held  map[[2]netip.AddrPort]*throttled
	swept time.Duration
}

func (r *Throttle) check(place firewall.Place) error {
	switch {
	case place != firewall.InPath:
		return wrong("rate", "a box that sees a copy cannot police")
	case len(r.Names) == 0:
		return wrong("names", "is missing: it says which names are throttled")
	case r.Rate < 0:
		return wrong("rate", "%d is no number of bits a second", r.Rate)
	case r.Burst != 0 && r.Burst < 1500:
		return wrong("burst", "with less than 1500 bytes no full packet ever passes")
	case r.More[0] > r.More[1] || r.More[0] < 0:
		return wrong("more", "wants the least and the most, as [15, 20]")
	}
	return nil
}

// Watch takes up where it was if the ends are held already, new connection or not.
func (r *Throttle) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !f.FromInside || !r.To.Covers(f.Server.Addr()) {
		return nil
	}
	if held := r.held[[2]netip.AddrPort{f.Client, f.Server}]; held != nil && !held.over(f.Began, r) {
		return held
	}
	if !f.Opened {
		return nil
	}
	more := r.More
	if more == [2]int{} {
		more = [2]int{15, 20}
	}
	return &throttleLook{rule: r, left: 1, more: more[0] + f.IntN(more[1]-more[0]+1)}
}

// throttleLook waits for a ClientHello.
type throttleLook struct {
	rule *Throttle
	left int // packets with a payload that are still looked at
	more int // how many a first packet may earn, once
	held *throttled
}

// Packet implements firewall.Watcher.
func (w *throttleLook) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if w.held != nil {
		w.held.Packet(f, p, do)
		return
	}
	if len(p.Payload) == 0 {
		return
	}
	w.left--
	for _, text := range [...][]byte{do.Text(), p.Payload} { // at the beginning, and anywhere
		hello, err := look.ClientHello(text, false)
		if err != nil {
			continue
		}
		name := look.ServerName(hello)
		if pattern := r.Names.Match(name); pattern != "" && r.Except.Match(name) == "" {
			do.Fired("SNI matches %s: policed at %d bit/s", pattern, or(r.Rate, 130_000))
			w.held = r.hold(f, p.At)
			w.held.Packet(f, p, do)
			return
		}
	}
	if w.more > 0 {
		switch {
		case leadsToTLS(p.Payload):
			w.left, w.more = w.more, 0
		case len(p.Payload) < or(r.Unknown, 101):
			w.left = 1
		}
	}
	if w.left <= 0 {
		do.Done()
	}
}

// leadsToTLS says whether a ClientHello may come in a connection that has this in it: a TLS record of any type, an HTTP
// proxy's request, or SOCKS 4 or 5.
func leadsToTLS(b []byte) bool {
	return len(b) >= 3 && b[0] >= 20 && b[0] <= 23 && b[1] == 3 && b[2] <= 4 || bytes.HasPrefix(b, []byte("CONNECT ")) ||
		len(b) >= 3 && b[0] == 5 && int(b[1]) == len(b)-2 || len(b) >= 8 && b[0] == 4 && b[1] <= 2
}

// policeBurst is what a policer holds, in bytes (Xue et al., IMC 2021).
const policeBurst = 16 << 10

// maxHeld bounds the memory of connections that are held.
const maxHeld = 1 << 16

func (r *Throttle) hold(f *firewall.Flow, now time.Duration) *throttled {
	if r.held == nil {
		r.held = make(map[[2]netip.AddrPort]*throttled)
	}
	if now > r.swept+time.Minute || len(r.held) >= maxHeld {
		r.swept = now
		for k, h := range r.held {
			if h.over(now, r) {
				delete(r.held, k)
			}
		}
	}
	h := &throttled{rule: r, last: now}
	if len(r.held) < maxHeld {
		r.held[[2]netip.AddrPort{f.Client, f.Server}] = h
	}
	return h
}

// throttled polices a connection.
type throttled struct {
	rule               *Throttle
	toServer, toClient bucket
	last               time.Duration
}

func (h *throttled) over(now time.Duration, r *Throttle) bool {
	return now-h.last > or(time.Duration(r.Idle), 10*time.Minute)
}

// Packet implements firewall.Watcher.
func (h *throttled) Packet(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if h.over(p.At, h.rule) {
		do.Done()
		return
	}
	h.last = p.At
	b := &h.toClient
	if p.FromClient {
		b = &h.toServer
	}
	if !b.take(p.At, p.Size, or(h.rule.Rate, 130_000), or(h.rule.Burst, policeBurst)) {
		do.Drop()
	}
}
