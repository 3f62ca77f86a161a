package scenario

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/survival"
)

// The table in small: what the order of 2017 asks for stops what it must and nothing of Godwit's, whose download goes on
// when the connection that carries it is struck. The full one is `make lab`.
func TestMatrix(t *testing.T) {
	netnstest.Need(t)
	dir, err := peer.DefaultToolsDir()
	if err != nil {
		t.Fatal(err)
	}
	old := visits
	visits = []time.Duration{0, 6 * time.Second}
	defer func() { visits = old }()
	var said bytes.Buffer
	cfg := Config{Profiles: []string{"vpn-ban-2018"}, Scenarios: []string{"reach", "hold"}, Seed: 1, HoldMB: 60, Parallel: 2, Progress: &said,
		Tools:   &peer.Tools{Dir: dir, Offline: true, Godwit: netnstest.Godwit(t), Log: slog.New(slog.DiscardHandler)},
		Skipped: make(map[string]string), Infos: make(map[string]peer.Info)}
	for _, name := range []string{"direct", "godwit", "openvpn-udp", "wireguard"} {
		e, err := peer.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Infos[name], err = e.Prepare(t.Context(), cfg.Tools); err != nil {
			cfg.Skipped[name] = err.Error()
			t.Logf("%s is not here: %v", name, err)
		}
		cfg.Peers = append(cfg.Peers, e)
	}
	report, err := Run(t.Context(), cfg)
	t.Logf("\n%s", said.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, lie := range report.Lies() {
		t.Error(lie)
	}
	for _, c := range []struct {
		peer, scenario string
		want           survival.Verdict
	}{{"direct", "reach", survival.Blocked}, {"godwit", "reach", survival.Passes}, {"direct", "hold", survival.Blocked}, {"godwit", "hold", survival.Passes}} {
		got := report.Find("vpn-ban-2018", c.peer, c.scenario)
		if got == nil || got.Verdict != c.want {
			t.Errorf("%s %s: %+v, want %s", c.peer, c.scenario, got, c.want)
		}
	}
	if c := report.Find("vpn-ban-2018", "godwit", "hold"); c != nil && (c.Strikes == 0 || len(c.Series) == 0) {
		t.Errorf("the download was struck %d times", c.Strikes)
	}
	var md bytes.Buffer
	if err := report.Markdown(&md); err != nil || !strings.Contains(md.String(), "**godwit**") {
		t.Errorf("%v\n%s", err, md.String())
	}
}

func TestUnknownScenario(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Config{Scenarios: []string{"fly"}}); err == nil || !strings.Contains(err.Error(), "reach") {
		t.Errorf("got %v", err)
	}
}
