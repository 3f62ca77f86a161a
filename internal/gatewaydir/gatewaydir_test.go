package gatewaydir

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/control"
)

var quiet = slog.New(slog.DiscardHandler)

func mustInit(t *testing.T, p Paths, endpoints ...string) (*Dir, bool) {
	t.Helper()
	d, made, err := p.Init(t.Context(), Wishes{Endpoints: endpoints}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, made
}

func firstKey(t *testing.T, d *Dir) string {
	t.Helper()
	k, err := d.Control.KeyByName(t.Context(), FirstKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key.Text()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A second init finds the first one's gateway and changes nothing, not even the operator's comments.
func TestInitTwice(t *testing.T) {
	t.Parallel()
	p := Paths{State: t.TempDir()}
	d, made := mustInit(t, p, "gw.example:8443", "192.0.2.1:8443", "192.0.2.1:443")
	if !made {
		t.Error("the first did not make it")
	}
	if want := []string{":8443", ":443"}; !slices.Equal(d.Settings.Listen, want) {
		t.Errorf("it listens on %q, want the endpoints' ports %q", d.Settings.Listen, want)
	}
	key := firstKey(t, d)
	file := p.SettingsFile()
	if err := os.WriteFile(file, append(read(t, file), "# mine\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	before := read(t, file)
	for _, endpoints := range [][]string{nil, d.Settings.Endpoints} {
		again, made := mustInit(t, p, endpoints...)
		if made || firstKey(t, again) != key || !bytes.Equal(read(t, file), before) {
			t.Errorf("init again with endpoints %q changed something", endpoints)
		}
	}
	moved, made := mustInit(t, p, "192.0.2.7:443")
	if made || !slices.Equal(moved.Settings.Endpoints, []string{"192.0.2.7:443"}) {
		t.Errorf("made %v, endpoints %q", made, moved.Settings.Endpoints)
	}
	k, err := accesskey.Parse(firstKey(t, moved))
	if err != nil || k.Endpoints[0].Host != "192.0.2.7" {
		t.Errorf("the key says %v, %v", k, err)
	}
	if !slices.Equal(moved.Settings.Listen, d.Settings.Listen) {
		t.Errorf("another endpoint changed listen to %q", moved.Settings.Listen)
	}
}

// Without endpoints the machine's own address is taken, whatever that is here.
func TestInitGuesses(t *testing.T) {
	t.Parallel()
	d, made := mustInit(t, Paths{State: t.TempDir()})
	if !made || len(d.Settings.Endpoints) != 1 || !slices.Equal(d.Settings.Listen, []string{":443"}) {
		t.Errorf("made %v, settings %+v", made, d.Settings)
	}
}

// The settings may lie in another directory than the state, and that one holds none then.
func TestSettingsElsewhere(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	p := Paths{State: filepath.Join(base, "state"), Settings: filepath.Join(base, "etc", "godwit", "gateway.toml")}
	if _, err := p.Open(t.Context(), quiet); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("before init: %v", err)
	}
	d, _ := mustInit(t, p, "gw.example:443")
	if _, err := os.Stat(filepath.Join(p.State, "gateway.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("settings in the state directory: %v", err)
	}
	again, err := p.Open(t.Context(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if firstKey(t, again) != firstKey(t, d) {
		t.Error("opened again, it is another gateway")
	}
}

func TestSettingsErrors(t *testing.T) {
	t.Parallel()
	const good = "listen = [':443']\nendpoints = ['gw.example:443']\n"
	if _, err := ParseSettings([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ text, want string }{
		{good + "congesion = 'bbr'\n", "congesion"},
		{good + "[egress]\nalow = []\n", "alow"},
		{"listen = [443]\n", "line 1"},
		{good + "memory_mib =\n", "line 3"},
		{good + "memory_mib = 1\n", "field memory_mib"},
		{good + "drain_minutes = 1441\n", "field drain_minutes"},
		{"endpoints = ['gw.example:443']\n", "field listen"},
		{"listen = ['443']\nendpoints = ['gw.example:443']\n", "field listen"},
		{"listen = [':443']\nendpoints = ['gw.example']\n", "field endpoints"},
		{good + "[egress]\nallow = ['10.0.0.1']\n", "field egress.allow"},
		{good + "[egress]\nsource4 = 'eth0'\n", "field egress.source4"},
		{good + "[egress]\npackets = 'tun'\n", "field egress.packets: \"tun\" is none: choose"},
		{good + "[egress]\npackets = 'kernel'\nupstream = 'socks5://p.example:1080'\n", "field egress.packets"},
		{good + "[egress]\nresolver = 'dns.example'\n", "field egress.resolver: resolver \"dns.example\": it is none: give an address"},
		{good + "[website]\nkind = 'shop'\n", "field website.kind"},
		{good + "[website]\nkynd = 'site'\n", "kynd"},
	} {
		_, err := ParseSettings([]byte(tt.text))
		if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want it to name %q", tt.text, err, tt.want)
		}
	}
}

// A secret that is lost is said to be, and never made anew under the old network's name.
func TestSecretLost(t *testing.T) {
	t.Parallel()
	p := Paths{State: t.TempDir()}
	mustInit(t, p, "gw.example:443")
	if err := os.Remove(filepath.Join(p.State, "keys", "door.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context(), quiet); !errors.Is(err, control.ErrSecretsLost) {
		t.Errorf("open: %v", err)
	}
	if _, _, err := p.Init(t.Context(), Wishes{}, quiet); !errors.Is(err, control.ErrSecretsLost) {
		t.Errorf("init: %v", err)
	}
}

func TestPublicEndpoint(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]bool{
		"gw.example:443": true, "198.51.100.7:443": true, "[2001:db8::1]:443": true,
		"10.1.2.3:443": false, "192.168.0.1:443": false, "127.0.0.1:443": false, "[fd00::1]:443": false,
		"[fe80::1]:443": false, "nonsense": false,
	} {
		if got := PublicEndpoint(endpoint); got != want {
			t.Errorf("PublicEndpoint(%q) = %v", endpoint, got)
		}
	}
}
