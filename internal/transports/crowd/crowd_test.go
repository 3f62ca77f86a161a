package crowd

import (
	"fmt"
	"net"
	"slices"
	"testing"
)

func at(format string, args ...any) net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf(format, args...)), Port: 1}
}

func TestFlood(t *testing.T) {
	c := New("visitors", [32]byte{1})
	var gone []int
	enter := func(n int, from net.Addr) *Member { return c.Enter(from, func() { gone = append(gone, n) }) }
	for n := range c.mostAlike {
		enter(n, at("203.0.113.%d", n))
	}
	if len(gone) != 0 {
		t.Fatalf("%v went although there was room", gone)
	}
	enter(1000, at("203.0.113.200"))
	if !slices.Equal(gone, []int{0}) {
		t.Errorf("of a full prefix %v went", gone)
	}
	const left = 10
	for n := range c.most - left { // from everywhere: the crowd of one prefix makes room
		enter(2000+n, at("2001:db8:%x::1", n))
	}
	if slices.ContainsFunc(gone, func(n int) bool { return n >= 2000 }) || len(gone) != 1+c.mostAlike-left {
		t.Errorf("%d went: %v", len(gone), gone)
	}
}

// Who cannot be made to go keeps its place, and others are not let in for it.
func TestUndroppable(t *testing.T) {
	c := New("guests", [32]byte{2})
	var all []*Member
	for range c.mostAlike {
		all = append(all, c.Enter(at("203.0.113.1"), nil))
	}
	if c.Enter(at("203.0.113.2"), nil) != nil {
		t.Error("let in beyond the room there is")
	}
	dropped := false
	if !c.Droppable(all[3], func() { dropped = true }) {
		t.Error("it is not there")
	}
	if c.Enter(at("203.0.113.2"), nil) == nil || !dropped {
		t.Error("the one that could go did not")
	}
	if c.Leave(all[3]) || c.Droppable(all[3], nil) || !c.Leave(all[4]) {
		t.Error("who is there and who is not")
	}
}

func TestGoneAndClosed(t *testing.T) {
	c := New("visitors", [32]byte{3})
	m := c.Enter(at("203.0.113.1"), func() {})
	gone := c.Gone()
	select {
	case <-gone:
		t.Error("one is there")
	default:
	}
	c.Leave(m)
	<-gone
	<-c.Gone()
	closed := 0
	c.Enter(at("203.0.113.1"), func() { closed++ })
	c.Enter(&net.UnixAddr{}, func() { closed++ })
	c.Close()
	if closed != 2 || c.Enter(at("203.0.113.1"), nil) != nil || c.Leave(m) {
		t.Errorf("%d were closed, and the crowd is open", closed)
	}
}
