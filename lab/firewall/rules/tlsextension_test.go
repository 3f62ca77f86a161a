package rules

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// extended adds an extension to a hello in one record.
func extended(hello string, kind uint16, body string) string {
	b := []byte(hello)
	at := 5 + 4 + 2 + 32
	at += 1 + int(b[at])                           // session id
	at += 2 + int(binary.BigEndian.Uint16(b[at:])) // ciphers
	at += 1 + int(b[at])                           // compression
	more := binary.BigEndian.AppendUint16(nil, kind)
	more = append(binary.BigEndian.AppendUint16(more, uint16(len(body))), body...)
	grow := func(at int) { binary.BigEndian.PutUint16(b[at:], binary.BigEndian.Uint16(b[at:])+uint16(len(more))) }
	grow(3)
	grow(5 + 2)
	grow(at)
	return string(append(b, more...))
}

func TestESNI(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:8443"
	set := func() Set {
		return Set{ESNI: []*ESNI{{Least: 5, Then: Then{Block: scope(firewall.Pair), Way: firewall.ToServer, Wait: Lag{Span: always(time.Second)},
			For: Span{120 * time.Second, 180 * time.Second}, Fixed: true}}}}
	}
	plain := hello(t, "front.example")
	esni := extended(plain, 0xffce, "an encrypted name")
	for _, c := range []struct {
		name  string
		texts []string
		fired bool
	}{
		{"the extension", []string{">" + esni}, true},
		{"in two segments", []string{">" + esni[:5], "<", ">" + esni[5:]}, true},
		{"four bytes first", []string{">" + esni[:4], "<", ">" + esni[4:]}, false},
		{"none", []string{">" + plain}, false},
		{"of ECH's drafts", []string{">" + extended(plain, 0xff02, "x")}, false},
		{"of ECH", []string{">" + extended(plain, 0xfe0d, "x")}, false},
		{"said by the server", []string{"<" + esni}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 20; seed++ {
				box := newBox(t, firewall.InPath, set(), withSeed(seed))
				res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, 0, append(c.texts, ">more", "<more")...))
				if fired := len(res.Events) == 1; fired != c.fired || len(res.Dropped) > 0 || len(res.Forged) > 0 {
					t.Fatalf("fired %v, dropped %v at once", res.Fired(), res.Dropped)
				}
				if !c.fired {
					continue
				}
				for _, next := range []struct {
					client, server string
					at             time.Duration
					dropped        bool
				}{
					{"192.0.2.1:40001", server, 900 * time.Millisecond, false},
					{"192.0.2.1:40002", server, 1100 * time.Millisecond, true},
					{"192.0.2.1:40003", "198.51.100.1:443", 2 * time.Second, false},
					{"192.0.2.2:40004", server, 2 * time.Second, false},
					{"192.0.2.1:40005", server, 120 * time.Second, true},  // retries
					{"192.0.2.1:40006", server, 182 * time.Second, false}, // prolong nothing
				} {
					res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, next.client, next.server, next.at, ">"+plain, "<x"))
					want := []int(nil)
					if next.dropped {
						want = []int{0, 2, 3} // of the client's
					}
					if !slices.Equal(res.Dropped, want) {
						t.Errorf("%s at %v: dropped %v, want %v", next.client, next.at, res.Dropped, want)
					}
				}
			}
		})
	}
	t.Run("retries", func(t *testing.T) {
		// One box sees, another drops: the first one sees retries too.
		drops := newBox(t, firewall.InPath, Set{})
		sees := newBox(t, firewall.OnPath, set(), func(c *firewall.Config) { c.Drops = drops })
		dropped := func(at time.Duration) bool {
			frames := firewalltest.Conn(t, firewall.TCP, client, server, at, ">"+esni)
			res := firewalltest.Pass(drops, frames)
			firewalltest.Pass(sees, frames)
			return len(res.Dropped) > 0
		}
		dropped(0)
		if !dropped(2*time.Second) || !dropped(100*time.Second) || dropped(190*time.Second) {
			t.Error("the block does not last from one second to three minutes")
		}
	})
	untouched(t, firewall.InPath, set, "chromium-https-banned", "godwit", "trojan", "reality")
}

func TestECH(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	set := func(name, to string) Set {
		return Set{ECH: []*ECH{{Names: Names{name}, To: nets(to), Reassemble: true, Then: Then{Drop: true, Block: scope(firewall.Connection)}}}}
	}
	plain := hello(t, "ech.front.example")
	ech := extended(plain, 0xfe0d, "\x00 an outer hello's")
	for _, c := range []struct {
		name, hello, outer, to string
		fired                  bool
	}{
		{"all three", ech, "ech.front.example", "198.51.100.0/24", true},
		{"no extension", plain, "ech.front.example", "198.51.100.0/24", false},
		{"another name", ech, "other.example", "198.51.100.0/24", false},
		{"elsewhere", ech, "ech.front.example", "203.0.113.0/24", false},
	} {
		frames := firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+c.hello, "<x")
		if res := firewalltest.Pass(newBox(t, firewall.InPath, set(c.outer, c.to)), frames); (len(res.Events) == 1) != c.fired || slices.Equal(res.Dropped, []int{3, 4}) != c.fired {
			t.Errorf("%s: fired %v, dropped %v", c.name, res.Fired(), res.Dropped)
		}
		frames = firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+quicHello(t, 1, c.hello), "<x")
		if res := firewalltest.Pass(newBox(t, firewall.InPath, set(c.outer, c.to)), frames); (len(res.Events) == 1) != c.fired || slices.Equal(res.Dropped, []int{0, 1}) != c.fired {
			t.Errorf("%s, QUIC: fired %v, dropped %v", c.name, res.Fired(), res.Dropped)
		}
	}
	// Chromium sends the extension to everyone, over TCP and QUIC, so the name and the address decide; curl does not.
	for capture, want := range map[string]bool{"chromium-https-allowed": true, "quic-allowed": true, "quic-initial-allowed": true,
		"chromium-https-banned": false, "quic-banned": false, "direct-https-allowed": false, "ssh": false, "dns": false} {
		for seed := uint64(1); seed <= 20; seed++ {
			res := firewalltest.Pass(newBox(t, firewall.InPath, set("allowed.example", "198.51.100.0/24"), withSeed(seed)), recorded(t, capture))
			if got := len(res.Dropped) > 0; got != want || got != (len(res.Events) > 0) {
				t.Errorf("%s: fired %v, dropped %v", capture, res.Fired(), res.Dropped)
			}
		}
	}
	untouched(t, firewall.InPath, func() Set { return set("ech.front.example", "0.0.0.0/0") }, "chromium-https-banned", "quic-banned")
	untouched(t, firewall.InPath, func() Set { return set("allowed.example", "203.0.113.0/24") }, "chromium-https-banned", "quic-banned")
	wantField(t, firewall.InPath, Set{ECH: []*ECH{{Then: Then{Drop: true}}}}, "names")
}
