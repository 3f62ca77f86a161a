package profile

import (
	"bytes"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
	"github.com/godwit-vpn/godwit/lab/replay"
)

const peers = "../firewall/testdata/peers/"

// found passes a recording through a profile's boxes and says which rules acted, each once.
func found(t *testing.T, name string, seed uint64, frames []firewalltest.Frame) (rules []string) {
	t.Helper()
	p, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.Build(seed, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range w.Boxes {
		firewalltest.Pass(b, frames)
	}
	for _, e := range w.Events() {
		// Those two only say, to the report and to the prober.
		if !e.Cleared && e.Rule != "tls-in-tls" && e.Rule != "shadowsocks-first" {
			rules = append(rules, e.Rule)
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// Each recording of a program meets the rules that are there for it, and no other does: over 20 seeds where draws are
// involved.
func TestRecordings(t *testing.T) {
	t.Parallel()
	names := map[string]string{"direct-https-banned": "tls-name", "curl-https-banned": "tls-name", "chromium-https-banned": "tls-name",
		"dns": "dns-injection"}
	with := func(more map[string]string) map[string]string {
		for k, v := range names {
			more[k] = v
		}
		return more
	}
	// QUIC is hit by none: Chromium's hello takes two datagrams.
	drawn := map[string]string{"curl-http-banned": "http-name", "http-banned": "http-name"}
	for name, c := range map[string]struct {
		always    map[string]string
		sometimes map[string]string
	}{
		"vpn-ban-2018": {with(map[string]string{"openvpn-udp": "openvpn", "openvpn-tcp": "openvpn", "wireguard": "wireguard", "ikev2": "ipsec"}), nil},
		"gfw-2023": {with(map[string]string{}), map[string]string{"shadowsocks": "fully-encrypted", "shadowsocks-cfb": "fully-encrypted",
			"shadowsocks-2022": "fully-encrypted", "vmess": "fully-encrypted", "obfs4": "fully-encrypted",
			"curl-http-banned": "http-name", "http-banned": "http-name"}},
		"gfw-2025": {with(map[string]string{}), drawn},
		"henan":    {with(map[string]string{}), drawn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := filepath.Glob(peers + "*.pcap")
			if err != nil || len(files) < 30 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				peer := strings.TrimSuffix(filepath.Base(file), ".pcap")
				frames := firewalltest.Read(t, file)
				const seeds = 20
				met := make(map[string]int)
				for seed := uint64(1); seed <= seeds; seed++ {
					for _, rule := range found(t, name, seed, frames) {
						met[rule]++
					}
				}
				want, sure := c.always[peer]
				if !sure {
					want = c.sometimes[peer]
				}
				if want != "" {
					t.Logf("%s: %s in %d of %d", peer, want, met[want], seeds)
				}
				if sure && met[want] != seeds || want != "" && met[want] == 0 {
					t.Errorf("%s met %v, not %s", peer, met, want)
				}
				delete(met, want)
				if len(met) > 0 {
					t.Errorf("%s met %v besides %q", peer, met, want)
				}
			}
		})
	}
}

// What no program runs here is recorded: what is not named is let be.
func TestReplays(t *testing.T) {
	t.Parallel()
	for name, stopped := range map[string][]string{"vpn-ban-2018": {"esp", "l2tp", "pptp", "tor"}, "gfw-2023": nil, "gfw-2025": nil, "henan": nil} {
		for _, r := range replay.Recordings() {
			p, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			w, err := p.Build(1, nil)
			if err != nil {
				t.Fatal(err)
			}
			out, err := replay.Run(r.Name, w.Boxes)
			if err != nil {
				t.Fatal(err)
			}
			if out.Stopped() != slices.Contains(stopped, r.Name) {
				t.Errorf("%s: %s, %d of %d packets dropped, %d resets: %v", name, r.Name, out.Dropped, out.Packets, out.Resets, out.Events)
			}
		}
	}
}

// A box does not look at what is exempt: here who has a licence.
func TestExempt(t *testing.T) {
	t.Parallel()
	for _, peer := range []string{"openvpn-udp", "wireguard", "ikev2"} {
		frames := firewalltest.Read(t, peers+peer+".pcap")
		for _, f := range frames {
			for _, at := range []int{14 + 12, 14 + 16} { // its source, its destination
				if bytes.Equal(f.Data[at:at+4], []byte{203, 0, 113, 20}) {
					copy(f.Data[at:], []byte{203, 0, 113, 233})
				}
			}
		}
		if got := found(t, "vpn-ban-2018", 1, frames); len(got) > 0 {
			t.Errorf("%s with a licence met %v", peer, got)
		}
	}
}

// Henan's firewall is in front of the national one: the profile has that one again, since files do not include others.
func TestHenanHasAllOfGFW(t *testing.T) {
	t.Parallel()
	var text [2]string
	var all [2]*Profile
	for i, name := range []string{"henan", "gfw-2025"} {
		b, err := data.ReadFile("data/" + name + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		_, text[i], _ = strings.Cut(string(b), "[[box]]\nname = \"gfw\"\n")
		if all[i], err = Parse(name, b); err != nil {
			t.Fatal(err)
		}
	}
	if text[0] == "" || text[0] != text[1] {
		t.Error("the boxes from gfw on are not the same")
	}
	if !reflect.DeepEqual(all[0].Hold, all[1].Hold) || !reflect.DeepEqual(all[0].Probe, all[1].Probe) {
		t.Error("hold or probe are not the same")
	}
}
