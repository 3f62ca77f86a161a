package rules

import (
	"errors"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Aim is which flows a rule looks at; its keys are the rule's own.
type Aim struct {
	// To are the servers' networks. Whoever means foreign ones, or IPv4 alone, says so here.
	To Nets `toml:"to"`
	// Ports are the servers'; empty is every port.
	Ports []int `toml:"ports"`
	// Outbound leaves out what begins outside.
	Outbound bool `toml:"outbound"`
	// Chance is how likely a flow is looked at; zero is 1.
	Chance float64 `toml:"chance"`
}

func (a *Aim) checkAim() error {
	for _, p := range a.Ports {
		if p < 1 || p > 65535 {
			return wrong("ports", "%d is no port", p)
		}
	}
	return chance("chance", a.Chance)
}

// at reports whether a flow is aimed at.
func (a *Aim) at(f *firewall.Flow) bool {
	return (!a.Outbound || f.FromInside) && a.To.Covers(f.Server.Addr()) && portIn(a.Ports, f.Server.Port()) &&
		(a.Chance == 0 || f.Chance(a.Chance))
}

// checkAll checks what most rules have.
func checkAll(a *Aim, t *Then, place firewall.Place, more ...error) error {
	return errors.Join(append(more, a.checkAim(), t.check(place))...)
}

// positive checks numbers of which zero stands for a default.
func positive(field string, n int) error {
	if n < 0 {
		return wrong(field, "%d is negative", n)
	}
	return nil
}

// oneOf checks a word; empty stands for the first.
func oneOf(field, word string, words ...string) error {
	if word == "" {
		return nil
	}
	for _, w := range words {
		if w == word {
			return nil
		}
	}
	return wrong(field, "%q is none of %q", word, words)
}
