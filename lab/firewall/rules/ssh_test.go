package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestSSH(t *testing.T) {
	t.Parallel()
	banner := func() Set { return Set{SSH: []*SSH{{Then: cut}}} }
	program := recorded(t, "ssh")
	hits(t, banner, map[string][]firewalltest.Frame{"OpenSSH": program})
	spares(t, banner, "ssh")

	volume := func() Set {
		return Set{SSH: []*SSH{{Rate: 50_000, Then: Then{Block: scope(firewall.Address), AllProtocols: true, For: always(time.Hour)}}}}
	}
	spares(t, volume) // that one too: it is a page of 60 KB
	// Crafted: a real client's banner and then a bulk of 60 KB/s, or of 40.
	for _, c := range []struct {
		rate int
		hit  bool
	}{{60_000, true}, {40_000, false}} {
		texts := []string{">SSH-2.0-OpenSSH_9.2p1\r\n", "<SSH-2.0-OpenSSH_9.2p1\r\n"}
		for range 25 * c.rate / 1000 {
			texts = append(texts, "<"+strings.Repeat("x", 1000))
		}
		frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "203.0.113.20:22", 0, texts...)
		for i := range frames { // 25 s of it
			frames[i].At = 25 * time.Second * time.Duration(i) / time.Duration(len(frames))
		}
		box := newBox(t, firewall.InPath, volume())
		res := firewalltest.Pass(box, frames)
		if (len(res.Dropped) > 0) != c.hit {
			t.Errorf("%d bytes/s: dropped %d, fired %v", c.rate, len(res.Dropped), res.Events)
		}
		web := func(after time.Duration) bool {
			return len(firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40001", "203.0.113.20:443", after, ">x")).Dropped) > 0
		}
		if web(30*time.Minute) != c.hit || web(90*time.Minute) {
			t.Errorf("%d bytes/s: the address is not blocked for an hour", c.rate)
		}
	}
}
