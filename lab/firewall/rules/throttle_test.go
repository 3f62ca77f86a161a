package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	var b bucket
	sent := 0
	for at := time.Duration(0); at < 10*time.Second; at += time.Millisecond {
		if b.take(at, 1000, 80_000, 5000) {
			sent += 1000
		}
	}
	if want := 5000 + 10*10_000; sent < want-1000 || sent > want {
		t.Errorf("%d bytes in 10 s, want %d", sent, want)
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	rule := func() *Throttle { return &Throttle{Names: Names{"*slow*"}, Except: Names{"=not-slow.example"}} }
	slow, fast := hello(t, "www.slow.example"), hello(t, "allowed.example")
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	box := func(t *testing.T, r *Throttle, seed uint64) *firewall.Box {
		return newBox(t, firewall.InPath, Set{Throttle: []*Throttle{r}}, withSeed(seed))
	}
	// A download after the hello, a millisecond from one packet to the next.
	download := func(first ...string) []string {
		for range 1000 {
			first = append(first, "<"+strings.Repeat("x", 1400))
		}
		return first
	}
	unknown := strings.Repeat("\xc7", 101)
	for _, c := range []struct {
		name  string
		texts []string
		held  bool
	}{
		{"the name", []string{">" + slow}, true},
		{"from the server", []string{"<" + slow}, true},
		{"another name", []string{">" + fast}, false},
		{"an exception", []string{">" + hello(t, "not-slow.example")}, false},
		{"something unknown and long first", []string{">" + unknown, ">" + slow}, false},
		{"something unknown and short first", []string{">" + unknown[:100], ">" + slow}, true},
		{"SOCKS first", []string{">\x05\x01\x00", "<\x05\x00", ">\x05\x01\x00\x01\xc6\x33\x64\x01\x01\xbb", "<\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", ">" + slow}, true},
		{"a proxy's request first", []string{">CONNECT www.slow.example:443 HTTP/1.1\r\n\r\n", "<HTTP/1.1 200 OK\r\n\r\n", ">" + slow}, true},
		{"long after", append(append([]string{">" + fast}, talk(20, 50)...), ">"+slow), false},
		{"in two segments", []string{">" + slow[:20], ">" + slow[20:]}, true},
		{"in two segments, none reassembled", []string{">" + slow[:20], ">" + slow[20:]}, false},
	} {
		b := box(t, rule(), 1)
		if strings.HasSuffix(c.name, "none reassembled") {
			b = newBox(t, firewall.InPath, Set{Throttle: []*Throttle{rule()}}, func(c *firewall.Config) { c.ReassembleTCP = false })
		}
		res := firewalltest.Pass(b, firewalltest.Conn(t, firewall.TCP, client, server, 0, download(c.texts...)...))
		if held := len(res.Fired()) > 0; held != c.held {
			t.Errorf("%s: held %v, want %v", c.name, held, c.held)
		}
		if bytes := (res.Passed - 3) * 1400; c.held && (bytes < 25_000 || bytes > 45_000) { // a burst of 16 KiB and a second's 16 KB
			t.Errorf("%s: about %d bytes in a second", c.name, bytes)
		}
		if !c.held && len(res.Dropped) > 0 {
			t.Errorf("%s: %d dropped", c.name, len(res.Dropped))
		}
	}
	t.Run("opened from outside", func(t *testing.T) {
		frames := firewalltest.Conn(t, firewall.TCP, client, server, 0, download(">"+slow)...)
		for i := range frames {
			frames[i].Outbound = !frames[i].Outbound
		}
		if res := firewalltest.Pass(box(t, rule(), 1), frames); len(res.Fired()) > 0 {
			t.Error("held")
		}
	})
	t.Run("memory", func(t *testing.T) {
		b := box(t, rule(), 1)
		firewalltest.Pass(b, firewalltest.Conn(t, firewall.TCP, client, server, 0, download(">"+slow)...))
		for _, c := range []struct {
			name, client string
			after        time.Duration
			held         bool
		}{
			{"the port again", client, 9 * time.Minute, true},
			{"another port", "192.0.2.1:40001", 9*time.Minute + time.Second, false},
			{"after ten minutes of silence", client, 30 * time.Minute, false},
		} {
			frames := firewalltest.Conn(t, firewall.TCP, c.client, server, c.after, download(">"+fast)...)
			if res := firewalltest.Pass(b, frames); (len(res.Dropped) > 0) != c.held {
				t.Errorf("%s: %d dropped, want held %v", c.name, len(res.Dropped), c.held)
			}
		}
	})
	t.Run("650 bytes a second", func(t *testing.T) {
		r := &Throttle{Names: Names{"slow.example"}, Rate: 5200, Burst: 1500}
		frames := spaced(firewalltest.Conn(t, firewall.TCP, client, server, 0, download(">"+slow)...), 100*time.Millisecond)
		res := firewalltest.Pass(box(t, r, 1), frames) // 100 s
		if n := res.Passed - 4; n < 100*650/1440-2 || n > 100*650/1440+2 {
			t.Errorf("%d packets of 1440 bytes in 100 s", n)
		}
	})
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for _, name := range append([]string{"trojan", "shadowsocks", "wireguard", "godwit"}, ordinary...) {
				if res := firewalltest.Pass(box(t, rule(), seed), recorded(t, name)); len(res.Dropped) > 0 || len(res.Events) > 0 {
					t.Errorf("%s is held: %v", name, res.Events)
				}
			}
			for _, name := range []string{"direct-https-banned", "chromium-https-banned"} {
				r := &Throttle{Names: Names{"banned.example"}, Rate: 65_000} // captures are short
				if res := firewalltest.Pass(box(t, r, seed), recorded(t, name)); len(res.Dropped) == 0 {
					t.Errorf("%s is not held", name)
				}
			}
		})
	})
}
