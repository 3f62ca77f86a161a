package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// megabit is a crafted download of n packets of 1440 bytes, one every 10 ms.
func megabit(t *testing.T, n int, after time.Duration) []firewalltest.Frame {
	texts := []string{">GET"}
	for range n {
		texts = append(texts, "<"+strings.Repeat("d", 1400))
	}
	return spaced(firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "203.0.113.20:443", after, texts...), 10*time.Millisecond)
}

func TestStrike(t *testing.T) {
	t.Parallel()
	strike := func(then Then, armed bool) firewalltest.Result {
		r := &Strike{Then: then}
		if armed {
			r.Arm()
		}
		box, err := firewall.New(firewall.Config{Rules: []firewall.Named{{Name: "strike", Rule: r}}})
		if err != nil {
			t.Fatal(err)
		}
		res := firewalltest.Pass(box, megabit(t, 600, 0))
		if (r.Struck() == 1) != armed {
			t.Errorf("struck %d times", r.Struck())
		}
		return res
	}
	block := Then{Block: scope(firewall.Connection)}
	if res := strike(block, false); len(res.Dropped) > 0 {
		t.Errorf("not armed: %d dropped", len(res.Dropped))
	}
	all := strike(block, true)
	if n := len(all.Dropped); n < 500 || n > 540 {
		t.Errorf("%d dropped, want what comes after 100 KB", n)
	}
	// Some 5 s at 130 kbit/s are 57 packets, and a burst is 11.
	block.Rate = 130_000
	res := strike(block, true)
	if passed := len(all.Dropped) - len(res.Dropped); passed < 60 || passed > 76 {
		t.Errorf("%d of %d pass a policer", passed, len(all.Dropped))
	}
}

func TestThenRate(t *testing.T) {
	t.Parallel()
	with := func(change func(*Then)) Set {
		then := Then{Block: scope(firewall.Connection), Rate: 1000}
		change(&then)
		return Set{TLSName: []*TLSName{{Names: Names{"banned.example"}, Then: then}}}
	}
	wantField(t, firewall.OnPath, with(func(*Then) {}), "then.rate")
	wantField(t, firewall.InPath, with(func(t *Then) { t.Rate = -1 }), "then.rate")
	wantField(t, firewall.InPath, with(func(t *Then) { t.Rewrite = true }), "then.rate")
	wantField(t, firewall.InPath, with(func(t *Then) { t.Block, t.Drop = nil, true }), "then.block")
}
