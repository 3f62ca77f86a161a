package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/dialer"
)

// A dialer is told which ways do not work, or badly, and for how long; not what does not touch them.
func TestSteer(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	const name = "name.example"
	ends := []end{
		{accesskey.Endpoint{Host: "192.0.2.1", Name: name}, []int{0}},
		{accesskey.Endpoint{Transport: "quic", Host: "192.0.2.1", Port: 443, Name: name}, []int{0}},
		{accesskey.Endpoint{Transport: "websocket", Host: "192.0.2.2", Port: 8443}, []int{1}},
		{accesskey.Endpoint{Transport: "http", Host: "192.0.2.1", Port: 80, Name: name}, []int{0}},
		{accesskey.Endpoint{Transport: "dns", Host: "t.example", Port: 443}, nil},
		{accesskey.Endpoint{Transport: "https", Host: "two.example", Port: 443, Name: "two.example"}, []int{0, 1}},
	}
	type of map[int]string // what is said of an endpoint: "blocked", "slow", or for how long
	for what, c := range map[string]struct {
		f    Finding
		want of
	}{
		"a name":                        {Finding{Kind: TLSName, Port: 443, Name: 1}, of{0: "blocked"}},
		"a name, and what follows":      {Finding{Kind: TLSName, Port: 443, Name: 1, Scope: serverPort, AtMost: 40}, of{0: "blocked 40s"}},
		"a name, no end seen":           {Finding{Kind: TLSName, Port: 443, Name: 2, Scope: serverPort, AtLeast: 40}, of{0: "2m0s"}},
		"any name":                      {Finding{Kind: TLSName, Port: 443, Name: MadeUp}, of{0: "blocked", 5: "blocked"}},
		"a name, in small hellos":       {Finding{Kind: TLSName, Port: 443, Name: 1, Hello: Small}, nil},
		"no name":                       {Finding{Kind: TLSNameless, Place: -1}, of{2: "blocked"}},
		"a Go program's hello":          {Finding{Kind: TLSFingerprint, Place: -1, Hello: Plainly}, nil},
		"the browser's":                 {Finding{Kind: TLSFingerprint, Place: -1, Hello: Browser}, of{0: "blocked", 2: "blocked", 5: "blocked"}},
		"TLS":                           {Finding{Kind: TLSCut, Port: 443}, of{0: "blocked"}},
		"an address":                    {Finding{Kind: AddressBlocked}, of{0: "blocked", 1: "blocked", 3: "blocked"}},
		"an address's TCP":              {Finding{Kind: AddressBlocked, How: "tcp"}, of{0: "blocked", 3: "blocked"}},
		"a port":                        {Finding{Kind: PortBlocked, Port: 80}, of{3: "blocked"}},
		"a port that is refused":        {Finding{Kind: PortRefused, Place: 1, Port: 8443}, of{2: "blocked"}},
		"HTTP":                          {Finding{Kind: HTTPCut, Port: 80}, of{3: "blocked"}},
		"a name in HTTP":                {Finding{Kind: HTTPName, Port: 80, Name: 1}, of{3: "blocked"}},
		"QUIC":                          {Finding{Kind: QUICBlocked, Port: 443, UDP: true}, of{1: "blocked"}},
		"a name in QUIC":                {Finding{Kind: QUICName, Port: 443, Name: 1, UDP: true, Scope: serverPort}, of{1: "blocked"}},
		"QUIC's version 1":              {Finding{Kind: QUICVersion, Port: 443, Version: 1, UDP: true}, of{1: "blocked"}},
		"QUIC's version 2":              {Finding{Kind: QUICVersion, Port: 443, Version: 2, UDP: true}, nil},
		"UDP that loses":                {Finding{Kind: UDPLossy, Port: 443, UDP: true}, of{1: "slow"}},
		"UDP that is policed elsewhere": {Finding{Kind: UDPPoliced, Place: 1, Port: 443, UDP: true}, nil},
		"a name that is slow":           {Finding{Kind: Throttled, Port: 443, Name: 1}, of{0: "slow"}},
		"TCP that freezes":              {Finding{Kind: Freeze, Place: -1}, of{0: "slow", 2: "slow", 3: "slow", 5: "slow"}},
		"UDP that freezes":              {Finding{Kind: Freeze, Port: 443, UDP: true}, of{1: "slow"}},
		"bursts":                        {Finding{Kind: BurstsPunished, Port: 443, AtMost: 30}, of{0: "30s"}},
		"a slow line":                   {Finding{Kind: Slow}, nil},
		"forged answers":                {Finding{Kind: DNSForged, Place: -1, Name: 1, UDP: true}, nil},
	} {
		r := &Report{names: []string{"", name, "other.example"}, ends: ends, Findings: []Finding{c.f}}
		found, ok := r.Steer(now)
		if !ok || len(found) != len(ends) {
			t.Fatalf("%s: %v, %v", what, found, ok)
		}
		for i, w := range found {
			said := ""
			if w.Blocked {
				said += "blocked "
			}
			if w.Slow {
				said += "slow "
			}
			if !w.Until.IsZero() {
				said += w.Until.Sub(now).String()
			}
			if got := strings.TrimSpace(said); got != c.want[i] {
				t.Errorf("%s: of %s at %s is said %q, not %q", what, w.Transport, w.Addr, got, c.want[i])
			}
		}
	}
	if w := must(t, &Report{ends: ends}, now); w[0].Way != (dialer.Way{Transport: "https", Addr: "192.0.2.1:443"}) ||
		w[4].Way != (dialer.Way{Transport: "dns", Addr: "t.example"}) {
		t.Errorf("the ways are %v", w)
	}
}

func must(t *testing.T, r *Report, now time.Time) []dialer.Found {
	t.Helper()
	found, ok := r.Steer(now)
	if !ok {
		t.Fatal("nothing is said")
	}
	return found
}

// What has nothing to do with the ways steers nothing, whatever else was found.
func TestSteersNothing(t *testing.T) {
	t.Parallel()
	for _, k := range []Kind{NoNetwork, CaptivePortal, WrongClock, Unreachable, SomebodyElse} {
		r := &Report{Findings: []Finding{{Kind: TLSCut}, {Kind: k, Place: -1}}, ends: []end{{places: []int{0}}}}
		if found, ok := r.Steer(time.Now()); ok || slices.ContainsFunc(found, func(f dialer.Found) bool { return f.Blocked }) {
			t.Errorf("%s: %v", k, found)
		}
	}
}
