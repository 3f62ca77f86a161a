package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestGatewayPaths(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("paths of other systems")
	}
	own := "/home/me/.local/state/godwit/gateway"
	ownSettings := own + "/gateway.toml"
	if runtime.GOOS == "darwin" {
		t.Skip("its own place")
	}
	if os.Geteuid() == 0 {
		own, ownSettings = systemState, systemSettings
	}
	for _, tt := range []struct {
		name, state, settings string // flags
		env                   map[string]string
		want, wantSettings    string
	}{
		{"nothing", "", "", nil, own, ownSettings},
		{"systemd", "", "", map[string]string{"STATE_DIRECTORY": "/var/lib/godwit:/var/lib/other"}, systemState,
			systemSettings},
		{"environment", "", "", map[string]string{"GODWIT_STATE_DIR": "/e", "STATE_DIRECTORY": "/s"}, "/e",
			"/e/gateway.toml"},
		{"flag", "/f", "", map[string]string{"GODWIT_STATE_DIR": "/e"}, "/f", "/f/gateway.toml"},
		{"settings by environment", "/f", "", map[string]string{"GODWIT_CONFIG": "/c.toml"}, "/f", "/c.toml"},
		{"settings by flag", "/f", "/d.toml", map[string]string{"GODWIT_CONFIG": "/c.toml"}, "/f", "/d.toml"},
		{"the system's by flag", systemState + "/", "", nil, systemState, systemSettings},
	} {
		env := map[string]string{"HOME": "/home/me"}
		for k, v := range tt.env {
			env[k] = v
		}
		a := &app{env: func(n string) string { return env[n] }}
		p, err := a.gatewayPaths(tt.state, tt.settings)
		if err != nil || p.State != tt.want || p.SettingsFile() != tt.wantSettings {
			t.Errorf("%s: %+v with settings in %q, %v; want %q and %q", tt.name, p, p.SettingsFile(), err, tt.want,
				tt.wantSettings)
		}
	}
}

func TestClientState(t *testing.T) {
	t.Parallel()
	env := map[string]string{"XDG_STATE_HOME": t.TempDir()}
	a := &app{env: func(n string) string { return env[n] }}
	for _, tt := range []struct{ flag, variable, want string }{
		{"", "", filepath.Join(env["XDG_STATE_HOME"], "godwit", "client")},
		{"", filepath.Join(env["XDG_STATE_HOME"], "e"), filepath.Join(env["XDG_STATE_HOME"], "e")},
		{filepath.Join(env["XDG_STATE_HOME"], "f"), "/e", filepath.Join(env["XDG_STATE_HOME"], "f")},
	} {
		env["GODWIT_STATE_DIR"] = tt.variable
		if got, err := a.clientState(tt.flag); got != tt.want || err != nil {
			t.Errorf("flag %q, variable %q: %q, %v, want %q", tt.flag, tt.variable, got, err, tt.want)
		}
	}
	if runtime.GOOS == "linux" {
		nowhere := &app{env: func(string) string { return "" }}
		if got, err := nowhere.clientState(""); err == nil {
			t.Errorf("without a home: %q", got)
		}
	}
}
