package https

import (
	"testing"
	"time"

	tls "github.com/refraction-networking/utls"
)

// A ticket is had once, at its place only, while it is young, and there are never many.
func TestKept(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	home, away := place{"chrome", "home", "192.0.2.1:443", ""}, place{"chrome", "cafe", "192.0.2.1:443", ""}
	var k kept
	one, two, three := new(tls.ClientSessionState), new(tls.ClientSessionState), new(tls.ClientSessionState)
	for i, s := range []*tls.ClientSessionState{one, two, three} {
		k.put(home, now.Add(time.Duration(i)*time.Second), s)
	}
	now = now.Add(time.Minute)
	if k.take(away, now) != nil || k.take(place{"chrome", "home", "192.0.2.1:443", "site.example"}, now) != nil ||
		k.take(place{"chrome", "home", "192.0.2.2:443", ""}, now) != nil || k.take(place{"firefox", "home", "192.0.2.1:443", ""}, now) != nil {
		t.Error("a ticket was had at another place")
	}
	if k.take(home, now) != three || k.take(home, now) != two || k.take(home, now) != nil {
		t.Error("not the two newest tickets, once each, the newest first")
	}
	k.put(home, now, one)
	if k.take(home, now.Add(keptFor+time.Second)) != nil || len(k.all) != 0 {
		t.Error("an old ticket was had, or is kept")
	}
	k.put(home, now, one)
	if k.take(home, now.Add(-time.Hour)) != nil {
		t.Error("a ticket from the future was had")
	}
	for i := range 1000 {
		k.put(place{network: string(rune(i))}, now, one)
	}
	if len(k.all) != mostKept {
		t.Errorf("%d tickets are kept", len(k.all))
	}
	if k.take(place{network: string(rune(0))}, now) != nil || k.take(place{network: string(rune(999))}, now) != one {
		t.Error("not the oldest were forgotten")
	}
}
