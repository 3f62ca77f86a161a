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
	Now(nil) // whatever this machine has, nothing breaks
}
