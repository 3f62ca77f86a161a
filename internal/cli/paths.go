package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

// Where a gateway lives that belongs to the machine rather than to a user.
const (
	systemState    = "/var/lib/godwit"
	systemSettings = "/etc/godwit/gateway.toml"
)

// gatewayPaths are where the gateway's files are:
//
//	state      --state-dir, GODWIT_STATE_DIR, STATE_DIRECTORY (systemd's), /var/lib/godwit for root, the user's own
//	settings   --config, GODWIT_CONFIG, /etc/godwit/gateway.toml for the state in /var/lib/godwit, in the state directory
func (a *app) gatewayPaths(stateFlag, settingsFlag string) (p gatewaydir.Paths, err error) {
	// systemd gives several directories separated by colons: the first one is ours.
	service, _, _ := strings.Cut(a.env("STATE_DIRECTORY"), ":")
	p.State = firstOf(stateFlag, a.env("GODWIT_STATE_DIR"), service)
	if p.State == "" {
		if runtime.GOOS != "windows" && os.Geteuid() == 0 {
			p.State = systemState
		} else if p.State, err = a.userState("gateway"); err != nil {
			return p, err
		}
	}
	if p.State, err = filepath.Abs(p.State); err != nil {
		return p, fmt.Errorf("state directory: %w", err)
	}
	p.Settings = firstOf(settingsFlag, a.env("GODWIT_CONFIG"))
	if p.Settings == "" && p.State == systemState {
		p.Settings = systemSettings
	}
	if p.Settings != "" {
		if p.Settings, err = filepath.Abs(p.Settings); err != nil {
			return p, fmt.Errorf("settings: %w", err)
		}
	}
	return p, nil
}

// clientState is the client's state directory: --state-dir, GODWIT_STATE_DIR, or the user's own.
func (a *app) clientState(flag string) (string, error) {
	dir := firstOf(flag, a.env("GODWIT_STATE_DIR"))
	if dir == "" {
		return a.userState("client")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	return dir, nil
}

// userState is a directory of ours where this user's programs keep what they know.
func (a *app) userState(name string) (string, error) {
	if dir := a.env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "godwit", name), nil
	}
	switch runtime.GOOS {
	case "windows": // the machine's part of the profile: a device's key must not roam
		if dir := a.env("LOCALAPPDATA"); dir != "" {
			return filepath.Join(dir, "godwit", name), nil
		}
	case "darwin":
		if dir, err := os.UserConfigDir(); err == nil {
			return filepath.Join(dir, "godwit", name), nil
		}
	}
	home := a.env("HOME")
	if home == "" {
		return "", errors.New("no place for the state, for neither HOME nor XDG_STATE_HOME is set: " +
			"name a directory with --state-dir")
	}
	return filepath.Join(home, ".local", "state", "godwit", name), nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
