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

// matrix runs cells for these peers.
func matrix(t *testing.T, cfg Config, peers ...string) *survival.Report {
	t.Helper()
	dir, err := peer.DefaultToolsDir()
	if err != nil {
		t.Fatal(err)
	}
	old := visits
	visits = []time.Duration{0, 6 * time.Second}
	defer func() { visits = old }()
	var said bytes.Buffer
	cfg.Seed, cfg.Parallel, cfg.Progress = 1, 2, &said
	cfg.Tools = &peer.Tools{Dir: dir, Offline: true, Godwit: netnstest.Godwit(t), Log: slog.New(slog.DiscardHandler)}
	cfg.Skipped, cfg.Infos = make(map[string]string), make(map[string]peer.Info)
	for _, name := range peers {
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
	return report
}

// Each of Godwit's ways across passes where it is to, by itself.
func TestEachWay(t *testing.T) {
	netnstest.Need(t)
	for _, c := range []struct {
		profile string
		peers   []string
	}{
		{"vpn-ban-2018", []string{"godwit-quic", "godwit-websocket", "godwit-http"}},
		{"shutdown", []string{"godwit-relay", "godwit-dns"}},
	} {
		report := matrix(t, Config{Profiles: []string{c.profile}, Scenarios: []string{"reach"}}, c.peers...)
		for _, p := range c.peers {
			if got := report.Find(c.profile, p, "reach"); got == nil || got.Verdict != survival.Passes {
				t.Errorf("%s at %s: %+v", p, c.profile, got)
			}
		}
	}
}

// The table in small: what the order of 2017 asks for stops what it must and nothing of Godwit's, whose download goes on
// when the connection that carries it is struck. The full one is `make lab`.
func TestMatrix(t *testing.T) {
	netnstest.Need(t)
	report := matrix(t, Config{Profiles: []string{"vpn-ban-2018"}, Scenarios: []string{"reach", "hold"}, HoldMB: 60},
		"direct", "godwit", "openvpn-udp", "wireguard")
	for _, lie := range report.Lies() {
		t.Error(lie)
	}
	for _, c := range []struct {
		peer, scenario string
		want           survival.Verdict
	}{{"direct", "reach", survival.Blocked}, {"godwit", "reach", survival.Passes}, {"direct", "hold", survival.None}, {"godwit", "hold", survival.Passes}} {
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
