package scenario

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/prober"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// probing is a firewall that asks whoever looks like nothing, soon, and blocks who gives itself away.
const probing = `
name = "probing"
story = "for a test"
sources = ["none: it is like no place on earth"]
[gateway]
addresses = 1
[probe]
delay = "280ms..1s"
box = "border"
block = "endpoint"
for = "1h"
[[box]]
name = "border"
place = "in-path"
[[box.fully-encrypted]]
[box.fully-encrypted.then]
probe = true
`

// find finds peers; those that are not here are skipped by name.
func find(t *testing.T, cfg *Config, names ...string) {
	t.Helper()
	cfg.Skipped, cfg.Infos = make(map[string]string), make(map[string]peer.Info)
	for _, name := range names {
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
}

// A used gateway of Godwit's answers the prober as a plain web server does; one of Shadowsocks's does not, and the packets
// of its users are kept.
func TestProbe(t *testing.T) {
	netnstest.Need(t)
	out := t.TempDir()
	file := filepath.Join(out, "probing.toml")
	if err := os.WriteFile(file, []byte(probing), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cfg := Config{Profiles: []string{file, "vpn-ban-2018"}, Scenarios: []string{"probe"}, Seed: 1, Progress: &said, Captures: filepath.Join(out, "captures"),
		Tools: &peer.Tools{Godwit: netnstest.Godwit(t), Log: slog.New(slog.DiscardHandler)}}
	if err := os.Mkdir(cfg.Captures, 0o700); err != nil {
		t.Fatal(err)
	}
	find(t, &cfg, "direct", "godwit", "shadowsocks")
	report, err := Run(t.Context(), cfg)
	t.Logf("\n%s", said.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		profile, peer string
		want          survival.Verdict
	}{
		{"probing", "direct", survival.None}, {"probing", "godwit", survival.Passes}, {"probing", "shadowsocks", survival.Blocked},
		{"vpn-ban-2018", "godwit", survival.None},
	} {
		got := report.Find(c.profile, c.peer, "probe")
		if got == nil {
			t.Fatalf("no cell %s %s", c.profile, c.peer)
		}
		t.Logf("%s %s: %s", c.profile, c.peer, got.Note)
		if cfg.Skipped[c.peer] != "" {
			continue
		}
		if got.Verdict != c.want || got.Note == "" || (got.Capture != "") != (c.want == survival.Blocked) || c.want == survival.Blocked && got.Rules["prober"] == 0 {
			t.Errorf("%s %s: %+v, want %s", c.profile, c.peer, got, c.want)
		}
		if got.Capture != "" {
			checkCapture(t, filepath.Join(out, got.Capture), gatewayAddrs[0])
		}
	}
}

// checkCapture checks that a file is small and has packets between the client and another end, and of nobody else.
func checkCapture(t *testing.T, path string, end netip.Addr) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := capture.ReadPcap(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range frames {
		src, dst := ipEnds(f.Data)
		if len(f.Data) > snapped || !slices.Contains([]netip.Addr{src, dst}, clientAddr) {
			t.Errorf("%d bytes of a packet from %v to %v", len(f.Data), src, dst)
		}
		if src == end || dst == end {
			found++
		}
	}
	if found == 0 || len(b) > 100<<10 {
		t.Errorf("%d packets of %v's among %d, in %d bytes", found, end, len(frames), len(b))
	}
}

// The packets of a visit that a firewall ended are kept.
func TestCaptureOfDirectVisit(t *testing.T) {
	netnstest.Need(t)
	p, err := profile.Load("vpn-ban-2018")
	if err != nil {
		t.Fatal(err)
	}
	c := build(t, p)
	direct, err := peer.Find("direct")
	if err != nil {
		t.Fatal(err)
	}
	r := c.through(t.Context(), direct.New(nil), func(base traffic.Fetch) run {
		base.Addr = bannedAddr
		if res := c.visit(t.Context(), base); !res.OK() {
			return run{verdict: survival.Blocked, note: res.Err}
		}
		return run{verdict: survival.Passes}
	})
	if r.verdict != survival.Blocked {
		t.Fatalf("%+v", r)
	}
	path := filepath.Join(t.TempDir(), captureName(p.Name, "direct", "reach"))
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	checkCapture(t, path, bannedAddr)
}

func build(t *testing.T, p *profile.Profile) *country {
	t.Helper()
	c, err := newCountry(t.Context(), p, 1, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Whom a rule suspects is probed without being asked for, and blocked once it is unmasked.
func TestSuspect(t *testing.T) {
	netnstest.Need(t)
	p, err := profile.Parse("probing", []byte(probing))
	if err != nil {
		t.Fatal(err)
	}
	var cfg Config
	if find(t, &cfg, "shadowsocks"); cfg.Skipped["shadowsocks"] != "" {
		t.Skip(cfg.Skipped["shadowsocks"])
	}
	c := build(t, p)
	at := server{"tcp", netip.AddrPortFrom(gatewayAddrs[0], 8388)}
	c.through(t.Context(), cfg.Peers[0].New(nil), func(base traffic.Fetch) run {
		base.Silence = 3 * time.Second
		c.use(t.Context(), base)
		r, err := c.report(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict.Outcome != prober.Unmasked {
			t.Errorf("the verdict is %s", r.Verdict)
		}
		if client, server := c.recorder.of(at); len(client) == 0 || len(server) == 0 {
			t.Errorf("recorded %d packets of the client's and %d of the server's", len(client), len(server))
		}
		page := base
		page.URL = "https://" + banned + "/"
		if res := page.Do(t.Context()); res.OK() {
			t.Errorf("it is not blocked: %+v", res)
		}
		return run{}
	})
	if fired, _ := c.firedOn(clientAddr, c.gateways); fired["prober"] != 1 {
		t.Errorf("fired %v", fired)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	report := func(o prober.Outcome) *prober.Report {
		return &prober.Report{Network: "tcp", Suspect: netip.MustParseAddrPort("198.51.100.10:443"), Verdict: prober.Verdict{Outcome: o, Reason: "why"}}
	}
	for _, c := range []struct {
		plain   prober.Outcome
		gateway []prober.Outcome
		want    survival.Verdict
	}{
		{prober.Cleared, []prober.Outcome{prober.Cleared}, survival.Passes},
		{prober.Cleared, []prober.Outcome{prober.Undecided, prober.Cleared}, survival.Degraded},
		{prober.Cleared, []prober.Outcome{prober.Unmasked, prober.Undecided}, survival.Blocked},
		{prober.Cleared, []prober.Outcome{prober.Undecided, prober.Unmasked}, survival.Blocked},
		{prober.Undecided, []prober.Outcome{prober.Unmasked}, survival.None},
		{prober.Unmasked, []prober.Outcome{prober.Cleared}, survival.None},
	} {
		var gateway []*prober.Report
		for _, o := range c.gateway {
			gateway = append(gateway, report(o))
		}
		if r := compare(report(c.plain), gateway); r.verdict != c.want || !strings.Contains(r.note, "why") {
			t.Errorf("%s beside %s: %s, %q, want %s", c.gateway, c.plain, r.verdict, r.note, c.want)
		}
	}
}
