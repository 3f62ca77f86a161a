package https

import (
	"testing"
	"time"

	tls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// A ticket is had once, at its place only, while it is young, and there are never many.
func TestKept(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	at := func(browser chrome.Family, network, addr, name string, pins ...[32]byte) place {
		return placeOf(chrome.BuiltIn(browser), transport.Endpoint{Network: network, Addr: addr, Name: name, Pins: pins})
	}
	pin := [32]byte{1}
	home := at("chrome", "home", "192.0.2.1:443", "", pin)
	var k kept
	one, two, three := new(tls.ClientSessionState), new(tls.ClientSessionState), new(tls.ClientSessionState)
	for i, s := range []*tls.ClientSessionState{one, two, three} {
		k.put(home, now.Add(time.Duration(i)*time.Second), s)
	}
	now = now.Add(time.Minute)
	for what, elsewhere := range map[string]place{
		"on another network":   at("chrome", "cafe", "192.0.2.1:443", "", pin),
		"for another name":     at("chrome", "home", "192.0.2.1:443", "site.example", pin),
		"at another address":   at("chrome", "home", "192.0.2.2:443", "", pin),
		"by another browser":   at("firefox", "home", "192.0.2.1:443", "", pin),
		"of another key":       at("chrome", "home", "192.0.2.1:443", "", [32]byte{2}),
		"of one more key":      at("chrome", "home", "192.0.2.1:443", "", pin, [32]byte{2}),
		"where no key will do": at("chrome", "home", "192.0.2.1:443", ""),
	} {
		if k.take(elsewhere, now) != nil {
			t.Errorf("a ticket was had %s", what)
		}
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
	if k.put(home, now, one); k.take(home, now) != one {
		t.Error("a ticket was not had")
	}
	k.put(home, now, one)
	if k.forget(); k.take(home, now) != nil {
		t.Error("a forgotten ticket was had")
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
