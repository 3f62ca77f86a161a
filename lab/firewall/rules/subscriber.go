package rules

import (
	"net/netip"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// Subscriber remembers who used a VPN. What that subscriber then does much of, and what cannot be named, is suspect: a new
// server becomes known by its old users.
//
// Geedge's gateway (InterSecLab, "The Internet Coup", 2025, from the vendor's papers, read in translation; not measured in
// the field): rules name VPNs; large flows without a name are blocked after a set time, as 24 h; a known VPN user's are
// suspect. Its box keeps what it knows by subscriber, which is an address inside here. How much is large is not known.
type Subscriber struct {
	// Of lists rules of this box: who they find is a VPN user.
	Of []string `toml:"of"`
	// Memory is how long that is remembered after the last time; zero is 30 days.
	Memory Dur `toml:"memory"`
	// Everyone takes all for VPN users: then large flows without a name are suspect by themselves.
	Everyone bool `toml:"everyone"`
	// Large is from how many bytes on a flow is; zero is 10 MB.
	Large int `toml:"large"`
	// Named are names in the SNI that make a flow a known one; empty is any name. A flow of HTTP, DNS or SSH is a known one.
	Named  Names `toml:"named"`
	Except Nets  `toml:"except"`
	// After is how long after the first suspicion it acts; zero is 24 h.
	After Dur  `toml:"after"`
	Then  Then `toml:"then"`

	users    map[netip.Addr]time.Duration
	suspects map[netip.AddrPort]time.Duration // since when
	swept    time.Duration
}

func (r *Subscriber) check(place firewall.Place) error {
	switch {
	case len(r.Of) == 0 && !r.Everyone:
		return wrong("of", "is missing: it says which rules know a VPN user")
	case r.Large < 0:
		return wrong("large", "%d is no number of bytes", r.Large)
	}
	return r.Then.check(place)
}

// Watch looks at everything from inside.
func (r *Subscriber) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP && f.Proto != firewall.UDP || !f.FromInside || local(f.Server.Addr()) || r.Except.Has(f.Server.Addr()) {
		return nil
	}
	return &subscribed{rule: r}
}

type subscribed struct {
	rule  *Subscriber
	said  spoken
	known bool // it has a name
	bytes int
	user  bool // the subscriber was noted as a VPN user for this flow
	large bool
}

// Packet implements firewall.Watcher.
func (w *subscribed) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	if !w.user && slices.ContainsFunc(r.Of, f.Found) {
		w.user = true
		r.note(f.Client.Addr(), p.At)
	}
	if !w.known && p.FromClient && len(p.Payload) > 0 && f.FromClient.Data <= 4 {
		w.known = w.named(f, p, do)
	}
	w.bytes += p.Size
	if w.known || w.bytes < or(r.Large, 10_000_000) {
		return
	}
	if !w.large {
		w.large = true
		last, known := r.users[f.Client.Addr()]
		if !r.Everyone && (!known || p.At-last > or(time.Duration(r.Memory), 30*24*time.Hour)) {
			w.known = true // of no interest
			return
		}
		if r.suspects == nil {
			r.suspects = make(map[netip.AddrPort]time.Duration)
		}
		if _, known := r.suspects[f.Server]; !known && len(r.suspects) < maxHeld {
			r.suspects[f.Server] = p.At
		}
	}
	if since, known := r.suspects[f.Server]; known && p.At-since >= or(time.Duration(r.After), 24*time.Hour) {
		delete(r.suspects, f.Server)
		do.Done()
		r.Then.do(f, do, "a large flow without a name, suspect for %v", p.At-since)
	}
}

// named says whether a flow's first words are of a protocol that is known, and in TLS and QUIC of a name.
func (w *subscribed) named(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) bool {
	switch shape(f.Proto, p.Payload) {
	case "http", "dns", "ssh":
		return true
	}
	hello, err := w.said.read(p, do)
	if err != nil {
		return false
	}
	name := look.ServerName(hello)
	return name != "" && (len(w.rule.Named) == 0 || w.rule.Named.Match(name) != "")
}

func (r *Subscriber) note(a netip.Addr, now time.Duration) {
	if r.users == nil {
		r.users = make(map[netip.Addr]time.Duration)
	}
	if now > r.swept+time.Hour || len(r.users) >= maxHeld {
		r.swept = now
		for a, last := range r.users {
			if now-last > or(time.Duration(r.Memory), 30*24*time.Hour) {
				delete(r.users, a)
			}
		}
	}
	if len(r.users) < maxHeld {
		r.users[a] = now
	}
}
