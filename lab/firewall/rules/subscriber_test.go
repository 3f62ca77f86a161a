package rules

import (
	"fmt"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestSubscriber(t *testing.T) {
	t.Parallel()
	firstStage := []*FullyEncrypted{{Then: Then{Probe: true}}} // only tells
	rule := func() *Subscriber {
		return &Subscriber{Of: []string{"fully-encrypted"}, Large: 100_000, Then: Then{Block: scope(firewall.Address), For: always(time.Hour)}}
	}
	const day = 24 * time.Hour
	const old, fresh = "203.0.113.1:8388", "203.0.113.2:9000"
	type visit struct {
		at     time.Duration
		client string
		server string
		first  string
		large  bool
	}
	unnamed := "\x00\x00\x00\x00 unknown"
	named := hello(t, "www.example")
	for _, c := range []struct {
		name   string
		set    func(*Subscriber)
		visits []visit
		acted  int
	}{
		{"a user's new server", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, unnamed, true},
			{26 * time.Hour, "192.0.2.1", fresh, unnamed, true}}, 1},
		{"by another subscriber, once it is suspect", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, unnamed, true},
			{25 * time.Hour, "192.0.2.2", old, junk(), false}, {26 * time.Hour, "192.0.2.2", fresh, unnamed, true}}, 1},
		{"too early", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, unnamed, true},
			{24 * time.Hour, "192.0.2.1", fresh, unnamed, true}}, 0},
		{"no user", nil, []visit{{time.Hour, "192.0.2.1", fresh, unnamed, true}, {26 * time.Hour, "192.0.2.1", fresh, unnamed, true}}, 0},
		{"everyone", func(r *Subscriber) { r.Of, r.Everyone = nil, true },
			[]visit{{time.Hour, "192.0.2.1", fresh, unnamed, true}, {26 * time.Hour, "192.0.2.1", fresh, unnamed, true}}, 1},
		{"a user no more", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {31 * day, "192.0.2.1", fresh, unnamed, true},
			{33 * day, "192.0.2.1", fresh, unnamed, true}}, 0},
		{"little", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, unnamed, false},
			{26 * time.Hour, "192.0.2.1", fresh, unnamed, false}}, 0},
		{"with a name", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, named, true},
			{26 * time.Hour, "192.0.2.1", fresh, named, true}}, 0},
		{"with a name that is not known", func(r *Subscriber) { r.Named = Names{"known.example"} },
			[]visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, named, true}, {26 * time.Hour, "192.0.2.1", fresh, named, true}}, 1},
		{"SSH and HTTP", nil, []visit{{0, "192.0.2.1", old, junk(), false}, {time.Hour, "192.0.2.1", fresh, "SSH-2.0-x", true},
			{26 * time.Hour, "192.0.2.1", fresh, "GET / HTTP/1.1\r\n", true}}, 0},
	} {
		r := rule()
		if c.set != nil {
			c.set(r)
		}
		box := newBox(t, firewall.InPath, Set{FullyEncrypted: firstStage, Subscriber: []*Subscriber{r}})
		for i, v := range c.visits {
			texts := []string{">" + v.first, "<answer"}
			if v.large {
				texts = append(texts, talk(100, 1400)...)
			}
			firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, fmt.Sprintf("%s:%d", v.client, 40000+i), v.server, v.at, texts...))
		}
		acted := 0
		for _, e := range box.Events() {
			if e.Rule == "subscriber" && !e.Cleared {
				acted++
			}
		}
		if acted != c.acted {
			t.Errorf("%s: acted %d times, want %d: %v", c.name, acted, c.acted, box.Events())
		}
	}
	t.Run("programs", func(t *testing.T) {
		seeds(t, func(t *testing.T, seed uint64) {
			for name, want := range map[string]bool{"wireguard": true, "openvpn-udp": true, "vmess": true, "chromium-https-allowed": false,
				"direct-https-allowed": false, "http-allowed": false, "ssh": false, "dns": false, "quic-allowed": false, "godwit": false} {
				r := &Subscriber{Everyone: true, Large: 20_000, After: Dur(1), Then: Then{Block: scope(firewall.Address)}}
				box := newBox(t, firewall.InPath, Set{Subscriber: []*Subscriber{r}}, withSeed(seed))
				if res := firewalltest.Pass(box, recorded(t, name)); (len(res.Fired()) > 0) != want {
					t.Errorf("%s: %v", name, res.Events)
				}
			}
		})
	})
}
