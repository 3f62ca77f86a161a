package network

import (
	"net/netip"
	"testing"
)

func TestName(t *testing.T) {
	home := State{Local4: netip.MustParseAddr("192.168.2.7"), Router: "02:00:00:00:00:01"}
	cafe := State{Local4: netip.MustParseAddr("192.168.2.7"), Router: "02:00:00:00:00:02"}
	if home == cafe || home.Name() == cafe.Name() {
		t.Error("two routers make one network")
	}
	again := home
	again.Local4 = netip.MustParseAddr("192.168.2.8")
	if home == again || home.Name() != again.Name() {
		t.Error("another address at the same router is another network, or no change")
	}
	for _, s := range []State{{Local4: home.Local4}, {Local6: netip.MustParsePrefix("2001:db8:1::/64")}} {
		if s.Name() == "" {
			t.Errorf("%+v has no name", s)
		}
	}
	if name := (State{}).Name(); name != "" {
		t.Errorf("no network is called %q", name)
	}
	if name := (State{}).Sure(); name != "" {
		t.Errorf("no network is surely %q", name)
	}
	Now(nil) // whatever this machine has, nothing breaks
}

// What many networks have in common names none of them for sure.
func TestSure(t *testing.T) {
	for _, c := range []struct {
		state State
		sure  string
	}{
		{State{Local4: netip.MustParseAddr("192.168.2.7"), Router: "02:00:00:00:00:01"}, "router 02:00:00:00:00:01"},
		{State{Local4: netip.MustParseAddr("192.168.2.7")}, ""},
		{State{Local4: netip.MustParseAddr("100.64.3.7")}, ""},
		{State{Local4: netip.MustParseAddr("203.0.113.7")}, "prefix 203.0.113.0/24"},
		{State{Local6: netip.MustParsePrefix("fd00:1::/64")}, ""},
		{State{Local4: netip.MustParseAddr("192.168.2.7"), Local6: netip.MustParsePrefix("2001:db8:1::/64")}, "prefix 2001:db8:1::/64"},
	} {
		if sure := c.state.Sure(); sure != c.sure {
			t.Errorf("%+v is surely %q, not %q", c.state, sure, c.sure)
		}
	}
}
