package rules

import (
	"errors"
	"strings"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// Tor looks for the TLS of Tor's own links: a list of cipher suites, or the name that Tor makes up for its SNI.
//
// China, 2011-12 on: the client's list of cipher suites has the server probed within minutes; its address and port are
// blocked for 12 hours, and again with each attempt, since 2018 the whole address (Winter and Lindskog, FOCI 2012; Dunna et
// al., FOCI 2018). Tor took Firefox's list in 2012, so that the old one is a parameter. Today's tell, without a measurement
// of anyone who uses it, is that Tor names "www.", 8 to 20 random letters of a to z and 2 to 7, ".com" (tor's
// crypto_random_hostname; nDPI looks for names like it), and no ALPN. Names of words are like that too, but for digits.
type Tor struct {
	Aim
	// Ciphers are lists, each written "c02b c02f 00ff"; GREASE is "grease".
	Ciphers []string `toml:"ciphers"`
	// RandomName looks for the SNI, with at least Digits digits in it; zero is 1.
	RandomName bool `toml:"random-name"`
	Digits     int  `toml:"digits"`
	// ALPN looks at hellos too that have it.
	ALPN    bool `toml:"alpn"`
	Records bool `toml:"records"`
	Then    Then `toml:"then"`
}

func (r *Tor) check(place firewall.Place) error {
	if len(r.Ciphers) == 0 && !r.RandomName {
		return wrong("ciphers", "is missing, and so is random-name: there is nothing to look for")
	}
	return checkAll(&r.Aim, &r.Then, place, positive("digits", r.Digits))
}

// Watch looks at what the client says first.
func (r *Tor) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		hello := helloOf(p, do, r.Records)
		if hello == nil {
			return
		}
		if _, ok := hello.Extension(clienthello.ALPN); ok && !r.ALPN {
			return
		}
		for _, list := range r.Ciphers {
			if clienthello.Codes(hello.Ciphers) == list {
				r.Then.do(f, do, "a list of cipher suites of Tor's")
				return
			}
		}
		if r.RandomName && torName(look.ServerName(hello), or(r.Digits, 1)) {
			r.Then.do(f, do, "a name that Tor made up")
		}
	})
}

// helloOf is what a client says first, once it is whole; then, and when it is something else, the rule is done.
func helloOf(p *firewall.Packet, do *firewall.Action, records bool) *clienthello.Hello {
	if !p.FromClient {
		return nil
	}
	text := do.Text()
	if len(text) == 0 {
		return nil
	}
	hello, err := look.ClientHello(text, records)
	if !errors.Is(err, look.ErrMore) {
		do.Done()
	}
	if err != nil {
		return nil
	}
	return hello
}

func torName(name string, least int) bool {
	name, www := strings.CutPrefix(name, "www.")
	name, com := strings.CutSuffix(name, ".com")
	if !www || !com || len(name) < 8 || len(name) > 20 {
		return false
	}
	digits := 0
	for _, c := range name {
		switch {
		case c >= '2' && c <= '7':
			digits++
		case c < 'a' || c > 'z':
			return false
		}
	}
	return digits >= least
}
