package tun

import (
	"net/netip"
	"testing"
)

// Where there are as many connections as can be, those that have ended make room, the oldest first, and open ones never do.
func TestConnectionsMakeRoom(t *testing.T) {
	var c conns
	c.init()
	add := func(i int) (*connection, bool) {
		n := &connection{src: netip.AddrPortFrom(netip.MustParseAddr("198.18.66.1"), uint16(i)),
			dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 24), byte(i >> 16)}), 80), state: open}
		return n, c.addLocked(n)
	}
	var all []*connection
	for i := range mostConns {
		n, ok := add(i)
		if !ok {
			t.Fatalf("there is no room for number %d", i)
		}
		all = append(all, n)
	}
	if _, ok := add(mostConns); ok {
		t.Fatalf("there are more than %d", mostConns)
	}
	for _, n := range all[10:20] {
		c.endLocked(n)
	}
	c.removeLocked(all[10]) // whose ports are used again
	for i := range 10 {
		if _, ok := add(mostConns + 1 + i); !ok {
			t.Fatalf("%d that have ended made room for %d", 10, i)
		}
	}
	if _, ok := add(2 * mostConns); ok {
		t.Error("an open connection was forgotten")
	}
	ports := map[uint16]bool{}
	for k := range c.byPort {
		ports[k.port] = true
	}
	if len(ports) != mostConns || len(c.byPair) != mostConns {
		t.Errorf("%d ports and %d pairs for %d connections", len(ports), len(c.byPair), mostConns)
	}
}
