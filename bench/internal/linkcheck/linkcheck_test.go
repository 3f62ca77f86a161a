//go:build linux

package linkcheck

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// startHere runs the model in this process.
func startHere(n *topology.Net, spec linkmodel.Spec) (func() (up, down linkmodel.Stats, err error), error) {
	var f *linkmodel.Forwarder
	err := n.Transit.Do(func() (err error) {
		f, err = linkmodel.Open(topology.TransitToClient, topology.TransitToGateway, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	return func() (up, down linkmodel.Stats, err error) {
		cancel()
		err = <-ran
		up, down = f.Stats()
		return up, down, err
	}, nil
}

// TestPath holds what must be so however busy the machine is: nothing arrives before its time, in another order, twice
// or too often, and the losses are those asked for. How late things come is only said.
func TestPath(t *testing.T) {
	netnstest.Need(t)
	for _, c := range []struct {
		name string
		d    linkmodel.Direction
	}{
		{"long and lossy", linkmodel.Direction{Delay: 20 * time.Millisecond, Rate: 20e6, QueueTime: 50 * time.Millisecond, Loss: 0.03}},
		{"short", linkmodel.Direction{Delay: time.Millisecond, Rate: 20e6, QueueTime: 20 * time.Millisecond}},
		{"doubled", linkmodel.Direction{Delay: 5 * time.Millisecond, Rate: 20e6, Duplicate: 0.5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rep, err := Run(t.Context(), c.d, 700*time.Millisecond, startHere)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			rep.Print(&text)
			t.Log("\n" + text.String())
			if !rep.Up.Faithful() || !rep.Down.Faithful() {
				t.Skip("the machine is too busy: the kernel dropped frames")
			}
			early := max(c.d.Delay/250, 50*time.Microsecond) // half a grain at either end
			if len(rep.RTT) == 0 || rep.RTT[0] < 2*c.d.Delay-early {
				t.Errorf("a ping took %v on a path of %v", at(rep.RTT, 0), 2*c.d.Delay)
			}
			for name, u := range map[string]UDP{"under": rep.Under, "over": rep.Over} {
				if u.Received == 0 || u.OneWay[0] < c.d.Delay-early {
					t.Errorf("%s: %d came, the first after %v", name, u.Received, at(u.OneWay, 0))
				}
				if u.Overtaken > 0 {
					t.Errorf("%s: %d overtaken", name, u.Overtaken)
				}
			}
			if most := 1.02 * float64(c.d.Rate) / 1e6; rep.Over.Mbps > most {
				t.Errorf("%.1f Mbit/s came through a path of %.1f", rep.Over.Mbps, float64(c.d.Rate)/1e6)
			}
			// Exactly those that the model says it lost are missing, and it lost as many as it should.
			u := rep.Up
			if got := u.Sent + u.Lost + u.Dropped + u.InFlight - u.Duplicated; got != u.Frames {
				t.Errorf("%d frames accounted for of %d", got, u.Frames)
			}
			survived := float64(u.Frames - u.Dropped)
			if sigma := math.Sqrt(survived * c.d.Loss * (1 - c.d.Loss)); math.Abs(float64(u.Lost)-survived*c.d.Loss) > 4*sigma {
				t.Errorf("lost %d of %.0f, asked for %g", u.Lost, survived, c.d.Loss)
			}
			if c.d.Duplicate == 0 && rep.Under.Duplicates+rep.Over.Duplicates > 0 {
				t.Error("duplicates that nobody asked for")
			}
			if c.d.Duplicate > 0 && rep.Under.Duplicates < rep.Under.Received/3 {
				t.Errorf("%d duplicates of %d", rep.Under.Duplicates, rep.Under.Received)
			}
		})
	}
}

func TestSetWhileRunning(t *testing.T) {
	netnstest.Need(t)
	n, err := topology.New(topology.Config{Linked: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var f *linkmodel.Forwarder
	err = n.Transit.Do(func() (err error) {
		f, err = linkmodel.Open(topology.TransitToClient, topology.TransitToGateway, linkmodel.Spec{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	ping := func() int {
		rtts, err := n.Client.Ping(t.Context(), topology.GatewayAddr, 3, 5*time.Millisecond, 200*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return len(rtts)
	}
	if got := ping(); got != 3 {
		t.Fatalf("%d of 3 pings came back", got)
	}
	if err := f.Set(linkmodel.Symmetric(linkmodel.Direction{Loss: 1}, 0)); err != nil {
		t.Fatal(err)
	}
	if got := ping(); got != 0 {
		t.Fatalf("%d pings crossed a path that loses all", got)
	}
	if err := f.Set(linkmodel.Spec{}); err != nil {
		t.Fatal(err)
	}
	if got := ping(); got != 3 {
		t.Fatalf("%d of 3 pings came back after the path was mended", got)
	}
	if err := f.Set(linkmodel.Symmetric(linkmodel.Direction{Loss: 2}, 0)); err == nil {
		t.Fatal("a loss of 2 was taken")
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); err == nil {
		t.Fatal("ran twice")
	}
}
