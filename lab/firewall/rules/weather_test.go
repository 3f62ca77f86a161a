package rules

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestWeather(t *testing.T) {
	t.Parallel()
	// The one that carries much, and others that differ from it in one thing each.
	much := megabit(t, 200, 0)
	small := func(proto uint8, server string) []firewalltest.Frame {
		return firewalltest.Conn(t, proto, "192.0.2.10:41000", server, 10*time.Second, ">x", "<x", ">x", "<x")
	}
	other := map[string][]firewalltest.Frame{
		"endpoint": small(firewall.TCP, "203.0.113.20:443"), "address": small(firewall.TCP, "203.0.113.20:80"),
		"udp": small(firewall.UDP, "203.0.113.21:443"), "elsewhere": small(firewall.TCP, "203.0.113.21:443"),
	}
	for _, c := range []struct {
		mood   Mood
		lost   int      // at least, of the one that carries much
		most   int      // at most; zero is as many
		others []string // that are lost, all of their packets or the first
	}{
		{Calm, 0, 0, nil},
		{ResetBulk, 100, 140, nil},
		{LoseConnection, 200, 204, nil},
		{LoseEndpoint, 200, 204, []string{"endpoint"}},
		{LoseAddress, 200, 204, []string{"endpoint", "address"}},
		{NoUDP, 0, 0, []string{"udp"}},
		{Slow, 100, 160, nil},
		{FreezeNew, 175, 180, nil},
		{NoSYN, 200, 202, []string{"endpoint", "address", "elsewhere"}},
		{Shut, 204, 204, []string{"endpoint", "address", "elsewhere", "udp"}},
	} {
		t.Run(c.mood.String(), func(t *testing.T) {
			t.Parallel()
			r := &Weather{}
			box, err := firewall.New(firewall.Config{Rules: []firewall.Named{{Name: "weather", Rule: r}}})
			if err != nil {
				t.Fatal(err)
			}
			r.Set(c.mood)
			res := firewalltest.Pass(box, much)
			if n := len(res.Dropped); n < c.lost || n > max(c.most, c.lost) {
				t.Errorf("%d of %d lost, want %d to %d", n, len(much), c.lost, c.most)
			}
			if forged := len(res.Forged); forged != 2*strings.Count("bulk reset, no SYN", c.mood.String()) {
				t.Errorf("%d forged", forged)
			}
			met, first := r.Met()
			if met > len(res.Dropped) || (met == 0) != (c.lost == 0) || first.IsZero() != (met == 0) {
				t.Errorf("met %d, %d lost", met, len(res.Dropped))
			}
			for name, frames := range other {
				want := strings.Contains(strings.Join(c.others, " "), name)
				if n := len(firewalltest.Pass(box, frames).Dropped); (n > 0) != want {
					t.Errorf("%s: %d lost", name, n)
				}
			}
			r.Set(Calm)
			dead := c.mood == ResetBulk || c.mood == FreezeNew || c.mood == NoSYN // it stays as it is
			if n := len(firewalltest.Pass(box, firewalltest.Shift(much[4:], 20*time.Second)).Dropped); (n > 0) != dead {
				t.Errorf("in the calm after it %d lost", n)
			}
		})
	}
}

// A policer holds a connection, or all of them, to its rate.
func TestPolice(t *testing.T) {
	t.Parallel()
	lost := func(together bool, flows ...string) int {
		r := &Weather{}
		r.Police(500_000, together)
		box, err := firewall.New(firewall.Config{Rules: []firewall.Named{{Name: "weather", Rule: r}}})
		if err != nil {
			t.Fatal(err)
		}
		var frames []firewalltest.Frame // each at half a megabit a second, and a little
		for _, server := range flows {
			frames = append(frames, spaced(firewalltest.Conn(t, firewall.UDP, "192.0.2.10:40000", server, 0,
				slices.Repeat([]string{">x", "<" + strings.Repeat("d", 1200)}, 400)...), 10*time.Millisecond)...)
		}
		slices.SortStableFunc(frames, func(a, b firewalltest.Frame) int { return cmp.Compare(a.At, b.At) })
		return len(firewalltest.Pass(box, frames).Dropped)
	}
	one, two := "203.0.113.20:443", "203.0.113.21:443"
	if n := lost(false, one); n > 10 {
		t.Errorf("%d of 400 lost at the rate", n)
	}
	if n := lost(false, one, two); n > 20 {
		t.Errorf("%d of two connections' lost, each at the rate", n)
	}
	if n := lost(true, one, two); n < 300 || n > 450 {
		t.Errorf("%d of 800 lost of two connections that share the rate", n)
	}
}

func TestForecast(t *testing.T) {
	t.Parallel()
	const length = 10 * time.Minute
	if !reflect.DeepEqual(Forecast(1, length), Forecast(1, length)) || reflect.DeepEqual(Forecast(1, length), Forecast(2, length)) {
		t.Error("the seed alone is to decide")
	}
	for seed := range uint64(100) {
		spells, over := Forecast(seed, length), time.Duration(0)
		seen := make(map[Mood]bool)
		for _, s := range spells {
			seen[s.Mood] = true
			if s.At < over+shortestSpell || s.For < shortestSpell || s.For > longestSpell || s.Mood == Shut && s.For > longestShut {
				t.Fatalf("seed %d: %+v after %v", seed, s, over)
			}
			over = s.At + s.For
		}
		if len(seen) != int(Shut) || over > length {
			t.Errorf("seed %d: %d moods, the last over at %v", seed, len(seen), over)
		}
	}
}
