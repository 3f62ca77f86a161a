package rules

import (
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// SSH looks for its banner at any port, and then for more volume than a shell has.
//
// China Telecom, 2018: a server's address blocked for about an hour if a connection carries more than about 50 KB/s (a
// user's report). Over how long that is measured is not known: a parameter. Iran's allow-lists blocked flows that begin like
// SSH within 72 hours (Alaraj et al., 2025). The banner is RFC 4253's, section 4.2; OpenGFW looks for it too.
type SSH struct {
	Aim
	// Rate, in bytes a second over Over, is what it takes; zero is the banner alone. Over zero is 10 s.
	Rate int  `toml:"rate"`
	Over Dur  `toml:"over"`
	Then Then `toml:"then"`
}

func (r *SSH) check(place firewall.Place) error {
	return checkAll(&r.Aim, &r.Then, place, positive("rate", r.Rate))
}

// Watch looks for the banner.
func (r *SSH) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.at(f) {
		return nil
	}
	return &ssh{rule: r}
}

type ssh struct {
	rule  *SSH
	found bool
	begin time.Duration // of the stretch in which bytes are counted
	bytes int
}

func (w *ssh) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r, size := w.rule, len(p.Payload)
	switch {
	case size == 0:
		return
	case !w.found:
		if !isSSH(p.Payload) { // either may speak first
			do.Done()
			return
		}
		if w.found = true; r.Rate == 0 {
			do.Done()
			r.Then.do(f, do, "SSH's banner")
			return
		}
		w.begin = p.At
	}
	over := time.Duration(or(r.Over, Dur(10*time.Second)))
	if p.At-w.begin > over {
		w.begin, w.bytes = p.At, 0
	}
	w.bytes += size
	if float64(w.bytes) > float64(r.Rate)*over.Seconds() {
		do.Done()
		r.Then.do(f, do, "SSH, %d bytes in %v", w.bytes, p.At-w.begin)
	}
}

func isSSH(b []byte) bool { return len(b) >= 8 && string(b[:4]) == "SSH-" }
