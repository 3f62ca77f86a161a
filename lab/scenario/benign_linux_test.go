package scenario

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
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
