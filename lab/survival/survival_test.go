package survival

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func report() *Report {
	return &Report{Schema: Schema, Date: "2026-11-25", Machine: "2 cores", Seed: 1,
		Profiles: []Profile{{Name: "gfw-2023", Story: "A story.", Sources: []string{"Wu"}, MustStop: []string{"wireguard", "shadowsocks"}, Addresses: 1,
			Picture: "client ─ isp\n"},
			{Name: "henan", Story: "Another.", Sources: []string{"Wu"}, Addresses: 1}},
		Peers: []Peer{{Name: "godwit", Version: "1"}, {Name: "wireguard", Version: "2"}, {Name: "shadowsocks"}},
		Cells: []Cell{
			{Profile: "gfw-2023", Peer: "godwit", Scenario: "reach", Verdict: Passes, How: Program, Runs: 3, Passed: 3, FirstByte: []time.Duration{time.Second}},
			{Profile: "gfw-2023", Peer: "wireguard", Scenario: "reach", Verdict: Blocked, Runs: 1, Rules: map[string]int{"wireguard": 2, "tls-name": 9},
				First: "a | b", Note: "<b>gone</b>", Capture: "captures/x.pcap"},
			{Profile: "gfw-2023", Peer: "shadowsocks", Scenario: "reach", Verdict: Passes, Runs: 1, Passed: 1},
			{Profile: "gfw-2023", Peer: "godwit", Scenario: "hold", Verdict: Passes, Runs: 1, Passed: 1, Strikes: 3,
				Stall: []time.Duration{400 * time.Millisecond}, Mbps: []float64{90}, Series: []int64{1e6, 2e6, 0, 3e6}},
			{Profile: "henan", Peer: "wireguard", Scenario: "reach", Verdict: None, Note: "needs /dev/net/tun"},
		},
		Benign: []Benign{{Profile: "henan", Tried: map[string]int{"https": 200}, Hit: map[string]int{"https": 1}, Seeds: 20,
			First: "https, seed 3: reset", Denied: map[string]int{"quic": 2, "ssh": 2}, Stopped: map[string]int{"ssh": 2},
			Skipped: map[string]string{"browser": "needs chromium"}}},
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	r := report()
	var md, html bytes.Buffer
	if err := r.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	if err := r.HTML(&html); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| **godwit** | ✔ 1.0 s |  |", "| wireguard | ✘ | – |", "tls-name ×9, wireguard ×2", "a / b",
		"✔ stall 400 ms, 90 Mbit/s", "0.50 %", "| https, seed 3: reset | quic 0 of 2, ssh 2 of 2 | browser: needs chromium |", "captures/x.pcap", "client ─ isp", "must stop: wireguard, shadowsocks"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("no %q in\n%s", want, md.String())
		}
	}
	for _, want := range []string{"✔ 1.0 s", "polyline", "&lt;b&gt;gone", "400 ms", "client ─ isp"} {
		if !strings.Contains(html.String(), want) {
			t.Errorf("no %q in\n%s", want, html.String())
		}
	}
	if lies := r.Lies(); len(lies) != 1 || !strings.Contains(lies[0], "shadowsocks") {
		t.Errorf("lies: %q", lies)
	}
}

func TestAddsUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.json")
	if err := report().Write(path); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := report()
	newer.Cells = []Cell{{Profile: "gfw-2023", Peer: "wireguard", Scenario: "reach", Verdict: Degraded}, {Profile: "henan", Peer: "godwit", Scenario: "reach", Verdict: Passes}}
	newer.Profiles[0].Picture = "client ─ isp ─ exchange\n"
	r.Add(newer)
	if got := r.Picture(); got != "gfw-2023\nclient ─ isp ─ exchange\n" {
		t.Errorf("the pictures are %q", got)
	}
	if len(r.Cells) != 6 || r.Find("gfw-2023", "wireguard", "reach").Verdict != Degraded || len(r.Profiles) != 2 {
		t.Errorf("%+v", r.Cells)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("read what is not there")
	}
}
