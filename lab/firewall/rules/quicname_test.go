package rules

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// quicHello is a datagram with a hello, taken from a TLS record, in one CRYPTO frame.
func quicHello(t testing.TB, version uint32, hello string) string {
	t.Helper()
	return quicFrames(t, version, firewalltest.Crypto(0, []byte(hello[5:])))
}

// quicFrames is a datagram of 1200 bytes with such frames.
func quicFrames(t testing.TB, version uint32, frames ...[]byte) string {
	t.Helper()
	all := slices.Concat(frames...)
	if len(all) < 1155 {
		all = append(all, make([]byte, 1155-len(all))...)
	}
	return string(firewalltest.Initial(t, version, []byte("12345678"), all))
}

func gfwQUIC(t testing.TB) *QUICName {
	r := &QUICName{Names: Names{"banned.example"}, PortAbove: true, Outbound: true, Then: Then{Block: scope(firewall.Pair), Way: firewall.ToServer,
		For: always(180 * time.Second)}}
	if err := r.Then.Wait.UnmarshalText([]byte("60ms/80ms/110ms/190ms/7.5s")); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestQUICNameInChina follows table 3 of Zohaib et al.
func TestQUICNameInChina(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	banned := hello(t, "www.banned.example")
	message := []byte(banned[5:])
	ping, padding := []byte{1}, make([]byte, 20)
	whole := quicHello(t, look.QUICv1, banned)
	half := len(message) / 2
	for _, c := range []struct {
		name           string
		client, server string
		texts          []string
		fired          bool
	}{
		{"one CRYPTO frame", client, server, []string{">" + whole}, true},
		{"no connection ids", client, server, []string{">" + string(firewalltest.Initial(t, 1, nil, firewalltest.Crypto(0, message)))}, true},
		{"on another port", client, "198.51.100.1:8443", []string{">" + whole}, true},
		{"on a port above the client's", client, "198.51.100.1:50000", []string{">" + whole}, false},
		{"on the client's port", "192.0.2.1:443", server, []string{">" + whole}, false},
		{"another name", client, server, []string{">" + quicHello(t, look.QUICv1, hello(t, "allowed.example"))}, false},
		{"the last byte is missing", client, server, []string{">" + whole[:len(whole)-1]}, false},
		{"version 2", client, server, []string{">" + quicHello(t, look.QUICv2, banned)}, false},
		{"another version", client, server, []string{">" + whole[:4] + "\x02" + whole[5:]}, false},
		{"PING before it", client, server, []string{">" + quicFrames(t, 1, ping, padding, firewalltest.Crypto(0, message))}, false},
		{"PING behind it", client, server, []string{">" + quicFrames(t, 1, firewalltest.Crypto(0, message), padding, ping)}, false},
		{"two CRYPTO frames", client, server, []string{">" + quicFrames(t, 1, firewalltest.Crypto(0, message[:half]), firewalltest.Crypto(half, message[half:]))}, false},
		{"two datagrams", client, server, []string{">" + quicFrames(t, 1, firewalltest.Crypto(0, message[:half])), ">" + quicFrames(t, 1, firewalltest.Crypto(half, message[half:]))}, false},
		{"something before it", client, server, []string{">x", ">" + whole}, false},
		{"said by the server", client, server, []string{">x", "<" + whole}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, firewall.InPath, Set{QUICName: []*QUICName{gfwQUIC(t)}})
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, c.client, c.server, 0, append(c.texts, "<x", ">x")...))
			if fired := len(res.Events) == 1; fired != c.fired || len(res.Dropped) > 0 {
				t.Errorf("fired %v, dropped %v: the first exchange passes", res.Fired(), res.Dropped)
			}
		})
	}
	t.Run("from outside", func(t *testing.T) {
		res := firewalltest.Pass(newBox(t, firewall.InPath, Set{QUICName: []*QUICName{gfwQUIC(t)}}), reverse(firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+whole)))
		if len(res.Events) > 0 {
			t.Errorf("fired %v", res.Fired())
		}
	})
	t.Run("a new flow after a minute", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{QUICName: []*QUICName{gfwQUIC(t)}})
		frames := spaced(firewalltest.Conn(t, firewall.UDP, client, server, 0, ">x", ">"+whole), 61*time.Second)
		if res := firewalltest.Pass(box, frames); len(res.Events) != 1 {
			t.Errorf("fired %v", res.Fired())
		}
	})
	t.Run("what is left", func(t *testing.T) {
		for seed := uint64(1); seed <= 20; seed++ {
			box := newBox(t, firewall.InPath, Set{QUICName: []*QUICName{gfwQUIC(t)}}, withSeed(seed))
			firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+whole))
			for _, next := range []struct {
				proto          uint8
				client, server string
				at             time.Duration
				dropped        []int
			}{
				{firewall.UDP, client, server, 10 * time.Second, []int{0}},
				{firewall.UDP, "192.0.2.1:40001", server, 179 * time.Second, []int{0}},
				{firewall.TCP, "192.0.2.1:40002", server, 20 * time.Second, nil},
				{firewall.UDP, "192.0.2.1:40003", "198.51.100.1:444", 20 * time.Second, nil},
				{firewall.UDP, "192.0.2.2:40004", server, 20 * time.Second, nil},
				{firewall.UDP, "192.0.2.1:40005", server, 188 * time.Second, nil},
			} {
				res := firewalltest.Pass(box, firewalltest.Conn(t, next.proto, next.client, next.server, next.at, ">x", "<x"))
				if !slices.Equal(res.Dropped, next.dropped) {
					t.Errorf("seed %d, %s at %v: dropped %v, want %v", seed, next.client, next.at, res.Dropped, next.dropped)
				}
			}
		}
	})
	t.Run("how often, and when", func(t *testing.T) {
		for _, chance := range []float64{0.05, 0.15, 0.7} {
			fired := 0
			var blocked []time.Duration
			for seed := uint64(1); seed <= 20; seed++ {
				r := gfwQUIC(t)
				r.Chance = chance
				box := newBox(t, firewall.InPath, Set{QUICName: []*QUICName{r}}, withSeed(seed))
				for n := range 50 {
					from := fmt.Sprintf("192.0.2.%d:40000", n+1)
					if before := len(box.Events()); len(firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, from, server, 0, ">"+whole)).Events) == before {
						continue
					}
					fired++
					for at := 10 * time.Millisecond; ; at += 10 * time.Millisecond {
						if len(firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, from, server, at, ">x")).Dropped) > 0 {
							blocked = append(blocked, at)
							break
						}
					}
				}
			}
			if share := float64(fired) / 1000; share < chance-0.08 || share > chance+0.08 || chance < 0.1 && share > 0.1 {
				t.Errorf("chance %v: %v fired", chance, share)
			}
			if fired < 500 {
				continue
			}
			// As measured, as far as steps of 10 ms and so many draws can say.
			for at, want := range map[time.Duration]float64{60 * ms: 0, 80 * ms: 0.1, 110 * ms: 0.5, 190 * ms: 0.9, 7500 * ms: 1} {
				n := 0
				for _, b := range blocked {
					if b <= at+5*ms {
						n++
					}
				}
				if share := float64(n) / float64(len(blocked)); share < want-0.09 || share > want+0.09 {
					t.Errorf("%.2f blocked after %v, want %.2f", share, at, want)
				}
			}
		}
	})
	t.Run("programs", func(t *testing.T) {
		// Chromium's hello takes two datagrams, and quic-go cuts the name in two, so neither is found.
		untouched(t, firewall.InPath, func() Set {
			r := gfwQUIC(t)
			r.Names = Names{"banned.example", "allowed.example"}
			return Set{QUICName: []*QUICName{r}}
		}, "quic-banned", "quic-initial-banned", "hysteria2", "chromium-https-banned", "wireguard", "openvpn-udp")
	})
}

// TestQUICNameInRussia has the whole hello read, and a block that lasts as long as it is met.
func TestQUICNameInRussia(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:8443"
	set := func() Set {
		return Set{QUICName: []*QUICName{{Names: Names{"banned.example"}, Reassemble: true, Outbound: true, ExceptPorts: []int{123},
			Then: Then{Drop: true, Block: scope(firewall.Connection), For: always(420 * time.Second), Extend: true}}}}
	}
	banned := hello(t, "banned.example")
	message := []byte(banned[5:])
	half := len(message) / 2
	first, second := quicFrames(t, 1, []byte{1}, firewalltest.Crypto(0, message[:half])), quicFrames(t, 1, firewalltest.Crypto(half, message[half:]))
	for _, c := range []struct {
		name, server string
		texts        []string
		dropped      []int
	}{
		{"one datagram", server, []string{">" + quicHello(t, 1, banned), "<x", ">x"}, []int{0, 1, 2}},
		{"two datagrams", server, []string{">" + first, ">" + second, "<x"}, []int{1, 2}},
		{"the second first", server, []string{">" + second, ">" + first, "<x"}, []int{1, 2}},
		{"the first again", server, []string{">" + first, ">" + first, ">" + second}, []int{2}},
		{"something between", server, []string{">" + first, ">x", ">" + second}, []int{2}},
		{"too late", server, []string{">" + first, ">x", ">x", ">x", ">" + second}, nil},
		{"version 2", server, []string{">" + quicHello(t, look.QUICv2, banned), ">x"}, nil},
		{"a spared port", "198.51.100.1:123", []string{">" + quicHello(t, 1, banned), ">x"}, nil},
	} {
		res := firewalltest.Pass(newBox(t, firewall.InPath, set()), firewalltest.Conn(t, firewall.UDP, client, c.server, 0, c.texts...))
		if !slices.Equal(res.Dropped, c.dropped) {
			t.Errorf("%s: dropped %v, want %v", c.name, res.Dropped, c.dropped)
		}
	}
	box := newBox(t, firewall.InPath, set())
	firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+quicHello(t, 1, banned)))
	for _, next := range []struct {
		client  string
		at      int
		dropped bool
	}{{"192.0.2.1:40001", 1, false}, {client, 400, true}, {client, 800, true}, {client, 1200, true}, {client, 1621, false}} {
		res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, next.client, server, time.Duration(next.at)*time.Second, ">x"))
		if got := len(res.Dropped) > 0; got != next.dropped {
			t.Errorf("%s at %d s: dropped %v", next.client, next.at, got)
		}
	}
	for capture, want := range map[string]bool{"quic-banned": true, "quic-initial-banned": true, "quic-allowed": false, "hysteria2": false} {
		for seed := uint64(1); seed <= 20; seed++ {
			res := firewalltest.Pass(newBox(t, firewall.InPath, set(), withSeed(seed)), recorded(t, capture))
			if got := len(res.Dropped) > 0; got != want || got != (len(res.Events) > 0) {
				t.Errorf("%s: fired %v, dropped %v", capture, res.Fired(), res.Dropped)
			}
		}
	}
	allowed := set()
	allowed.QUICName[0].Names = Names{"allowed.example"}
	if res := firewalltest.Pass(newBox(t, firewall.InPath, allowed), recorded(t, "hysteria2")); len(res.Dropped) == 0 {
		t.Error("Hysteria 2 passes under a banned name")
	}
	untouched(t, firewall.InPath, set, "chromium-https-banned", "wireguard", "openvpn-udp", "ikev2")
}

func TestQUICNameChecks(t *testing.T) {
	t.Parallel()
	names, drop := Names{"banned.example"}, Then{Drop: true}
	for field, r := range map[string]*QUICName{
		"names":        {Then: drop},
		"versions":     {Names: names, Versions: []uint32{3}, Then: drop},
		"except-ports": {Names: names, ExceptPorts: []int{-1}, Then: drop},
		"then.reset":   {Names: names, Then: Then{Reset: named[Injector](t, "iran")}},
		"then.rewrite": {Names: names, Then: Then{Block: scope(firewall.Connection), Rewrite: true}},
		"chance":       {Names: names, Chance: 1.5, Then: drop},
	} {
		wantField(t, firewall.InPath, Set{QUICName: []*QUICName{r}}, field)
	}
	for text, good := range map[string]bool{"1s": true, "1s..2s": true, "1s/2s/3s/4s/5s": true, "1s/2s/3s": false, "2s/1s/3s/4s/5s": false,
		"2s..1s": false, "x": false, "1s/2s/3s/4s/x": false, "": false} {
		var l Lag
		if err := l.UnmarshalText([]byte(text)); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
