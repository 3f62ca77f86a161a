package e2e

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// comesBack reports whether a connection's client has a ticket of an earlier one.
func (c *watched) comesBack() bool { return c.ticket() != "" }

// ticket is the ticket that a connection's client shows, or empty.
func (c *watched) ticket() string {
	hello, err := clienthello.ParseHello(c.hello)
	if err != nil || hello.PSK() == nil {
		return ""
	}
	return string(hello.PSK().Identities[0])
}

// TestComingBack counts the tickets that a watcher sees: the first link on a network is a browser's first visit, the next
// ones come back, each with a ticket that nobody has seen, and on another network all begins anew.
func TestComingBack(t *testing.T) {
	w := withGateway(t)
	x := w.newWire(time.Millisecond)
	w.meetRouter()
	x.take()
	seen := map[string]bool{}
	w.clientProcess = w.startClient(w.key, "--transport", "https")
	w.twoVisits(x, "at first", seen)
	// The same cable leads to another router now, which gives out other addresses.
	w.ip(w.middle, "link set client address 02:00:00:00:00:99")
	w.ip(w.client, `
		addr del 198.51.100.2/24 dev wan
		addr add 198.51.100.3/24 dev wan
		route replace default via `+middleAddr+`
		neigh flush dev wan`)
	w.meetRouter()
	w.twoVisits(x, "on another network", seen)
}

// meetRouter has the client's machine know its router, as a machine does that is in use.
func (w *world) meetRouter() {
	w.t.Helper()
	conn, err := w.client.dial(gatewayAddr + ":" + gatewayPort)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.Close()
}

// twoVisits waits for two links, of which the first one is to be a first visit, and the second one not.
func (w *world) twoVisits(x *wire, when string, seen map[string]bool) {
	w.t.Helper()
	var frames []frame
	var visits []*watched
	for deadline := time.Now().Add(time.Minute); len(visits) < 2; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %d links", when, len(visits))
		}
		frames = append(frames, x.take()...)
		visits = nil
		for _, conn := range watchedIn(frames) {
			if up, _ := conn.firsts(time.Time{}); len(up) > 3 { // a link
				visits = append(visits, conn)
			}
		}
	}
	for i, visit := range visits {
		ticket := visit.ticket()
		if (ticket != "") != (i > 0) {
			w.t.Errorf("%s, link %d: a ticket %v", when, i+1, ticket != "")
		}
		if ticket != "" && seen[ticket] {
			w.t.Errorf("%s, link %d: a ticket for the second time", when, i+1)
		}
		seen[ticket] = true
	}
}
