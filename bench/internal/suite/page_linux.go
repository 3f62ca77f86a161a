package suite

import (
	"fmt"
	"slices"
	"time"

	"net/netip"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// pages are a web page on paths of several lengths, with and without loss.
func pages() (all []Condition) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond} {
		for _, loss := range []float64{0, 0.01} {
			all = append(all, Condition{
				Name: fmt.Sprintf("page-bbr-%dms-loss%g", rtt.Milliseconds(), loss*100),
				About: fmt.Sprintf("A page of 100 objects on five hosts, whose names are looked up through the tunnel; %v round trip, "+
					"100 Mbit/s with a 50 ms tail-drop queue, %g %% of frames lost each way.", rtt, loss*100),
				Net:   topology.Config{CC: "bbr", Linked: true},
				Link:  &linkmodel.Direction{Delay: rtt / 2, Rate: 100 * mbit, Loss: loss, QueueTime: 50 * time.Millisecond},
				Tests: []Test{{ID: "page", Spec: load.Spec{Kind: load.Page, Count: 5, Seconds: 60}}},
			})
		}
	}
	return all
}

// openSite gives the target the addresses of the page's hosts, and everybody the resolver that knows their names.
func (m *measurement) openSite() error {
	if !slices.ContainsFunc(m.cond.Tests, func(t Test) bool { return t.Spec.Kind == load.Page }) {
		return nil
	}
	for i := range load.SiteHosts {
		a := load.SiteAddr(topology.TargetAddr, i)
		if err := m.net.Target.AddAddr("eth0", netip.PrefixFrom(a, a.BitLen()), m.net.RouteCC()); err != nil {
			return err
		}
	}
	for _, h := range []*netns.Host{m.net.Client, m.net.Gateway} {
		if err := h.SetResolvers(topology.TargetAddr); err != nil {
			return err
		}
	}
	return nil
}
