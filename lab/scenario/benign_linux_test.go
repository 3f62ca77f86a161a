package scenario

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/survival"
)

func testTools(t *testing.T) *peer.Tools {
	return &peer.Tools{Dir: t.TempDir(), Offline: true, Log: slog.New(slog.DiscardHandler)}
}

// Ordinary traffic passes a firewall that looks for other things, and one that hits it on purpose or by mistake is found out.
func TestBenign(t *testing.T) {
	netnstest.Need(t)
	t.Run("spared", func(t *testing.T) {
		got, err := benign(t.Context(), "vpn-ban-2018", 1, benignPlan{1, 1, 1}, testTools(t))
		if err != nil {
			t.Fatal(err)
		}
		if got.Seeds != 1 || got.Rate() != 0 || got.Tried["https-home"] == 0 && got.Skipped["https-home"] == "" {
			t.Errorf("%+v", got)
		}
		t.Logf("%+v", got)
	})
	t.Run("hit", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "harsh.toml")
		if err := os.WriteFile(file, []byte(harsh), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := benign(t.Context(), file, 1, benignPlan{1, 0, 1}, testTools(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", got)
		if got.Skipped["https"] == "" && (got.Hit["https"] != 3 || got.Rules["tls-name"] == 0 || got.Hit["http"] != 0 || got.First == "") {
			t.Errorf("a firewall that resets an allowed name: %+v", got)
		}
		if got.Skipped["dns-udp"] == "" && (got.Denied["dns-udp"] != 1 || got.Tried["dns-udp"] != 0) {
			t.Errorf("what is denied to all: %+v", got)
		}
	})
}

// harsh is no country's: it resets the allowed site, by mistake, and denies QUIC and foreign DNS on purpose. Its score hits
// nobody.
const harsh = `name = "harsh"
story = "s"
sources = ["none: a test"]
denies = ["udp"]
[gateway]
addresses = 1
[[box]]
name = "only"
place = "in-path"
reassemble = ["tcp"]
[[box.tls-name]]
names = ["allowed.example"]
[box.tls-name.then]
reset = ["gfw-1"]
drop = true
[[box.tls-in-tls]]
model = "ndpi"
`

// Where nobody has IPv6 a program tries it, is refused, and goes on with IPv4: only what fails for good was hit.
func TestWithoutIPv6(t *testing.T) {
	over6 := firewall.Event{Rule: "address-block", Server: netip.MustParseAddrPort("[2001:db8:3::80]:443")}
	over4 := firewall.Event{Rule: "tls-name", Server: netip.MustParseAddrPort("203.0.113.80:443")}
	what := ordinary{kind: "https"}
	for _, c := range []struct {
		without6    bool
		err         error
		fired       []firewall.Event
		hit, denied int
	}{
		{false, nil, []firewall.Event{over6}, 1, 0},
		{true, nil, []firewall.Event{over6}, 0, 1},
		{true, nil, []firewall.Event{over6, over4}, 1, 1},
		{true, errors.New("no page"), []firewall.Event{over6}, 1, 1},
		{true, nil, nil, 0, 0},
	} {
		b := &benignCount{without6: c.without6, Benign: survival.Benign{Tried: map[string]int{}, Hit: map[string]int{},
			Rules: map[string]int{}, Denied: map[string]int{}, Stopped: map[string]int{}}}
		b.add(what, false, 1, c.err, c.fired)
		if b.Hit["https"] != c.hit || b.Denied["ipv6"] != c.denied || b.Stopped["ipv6"] != c.denied || b.Tried["https"] != 1 {
			t.Errorf("%+v: %+v", c, b.Benign)
		}
	}
}
