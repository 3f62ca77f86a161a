package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// sysctls is a kernel with some of the network's settings, empty where it has none, and how to read what is left of them.
func sysctls(t *testing.T, was map[string]string) (k kernel, left func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range was {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return kernel{linux: true, sysctls: dir}, func(name string) string {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return string(text)
	}
}

func TestAllowBBR(t *testing.T) {
	t.Parallel()
	const (
		allowed   = "ipv4/tcp_allowed_congestion_control"
		available = "ipv4/tcp_available_congestion_control"
	)
	for _, tt := range []struct {
		name               string
		allowed, available string // empty: no such file
		root               bool
		loaded             string // what is available after loading the module; empty: loading fails
		want               bbr    // without the note
		left               string // what is allowed afterwards
	}{
		{"already", "reno bbr\n", "reno bbr cubic\n", false, "", bbr{Allowed: true}, "reno bbr\n"},
		{"not root", "reno cubic\n", "reno bbr cubic\n", false, "", bbr{}, "reno cubic\n"},
		{"only to allow", "reno cubic\n", "reno bbr cubic\n", true, "", bbr{Allowed: true, Changed: true},
			"reno cubic bbr\n"},
		{"to load", "reno cubic\n", "reno cubic\n", true, "reno cubic bbr\n", bbr{Allowed: true, Changed: true},
			"reno cubic bbr\n"},
		{"not to be had", "reno cubic\n", "reno cubic\n", true, "", bbr{}, "reno cubic\n"},
		{"container", "", "reno cubic\n", true, "", bbr{}, ""},
	} {
		k, left := sysctls(t, map[string]string{allowed: tt.allowed, available: tt.available})
		k.root = tt.root
		k.load = func(context.Context, string) error {
			if tt.loaded == "" {
				return errors.New("no such module")
			}
			return os.WriteFile(filepath.Join(k.sysctls, available), []byte(tt.loaded), 0o600)
		}
		got := allowBBR(t.Context(), k)
		if got.Note == "" {
			t.Errorf("%s: nothing is said", tt.name)
		}
		got.Note = ""
		if left := left(allowed); got != tt.want || left != tt.left {
			t.Errorf("%s: %+v, and %q is allowed; want %+v, %q", tt.name, got, left, tt.want, tt.left)
		}
	}
	if got := allowBBR(t.Context(), kernel{}); got.Allowed || got.Note == "" {
		t.Errorf("another system: %+v", got)
	}
}

func TestAllowSendBuffer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		was  string // empty: no such file
		root bool
		want sendBuffer // without the note
		left string
	}{
		{"enough", "33554432\n", false, sendBuffer{Bytes: 32 << 20}, "33554432\n"},
		{"not root", "212992\n", false, sendBuffer{Bytes: 212992}, "212992\n"},
		{"to raise", "212992\n", true, sendBuffer{Bytes: 16 << 20, Changed: true}, "16777216\n"},
		{"container", "", true, sendBuffer{}, ""},
		{"nonsense", "many\n", true, sendBuffer{}, "many\n"},
	} {
		k, left := sysctls(t, map[string]string{"core/wmem_max": tt.was})
		k.root = tt.root
		got := allowSendBuffer(k)
		if got.Note == "" {
			t.Errorf("%s: nothing is said", tt.name)
		}
		got.Note = ""
		if left := left("core/wmem_max"); got != tt.want || left != tt.left {
			t.Errorf("%s: %+v, and the file says %q; want %+v, %q", tt.name, got, left, tt.want, tt.left)
		}
	}
}

func TestForgetPeers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		was  string // empty: no such file
		root bool
		want peers // without the note
		left string
	}{
		{"already", "1\n", false, peers{Forgotten: true}, "1\n"},
		{"not root", "0\n", false, peers{}, "0\n"},
		{"to stop", "0\n", true, peers{Forgotten: true, Changed: true}, "1\n"},
		{"container", "", true, peers{}, ""},
	} {
		k, left := sysctls(t, map[string]string{"ipv4/tcp_no_metrics_save": tt.was})
		k.root = tt.root
		got := forgetPeers(k)
		if got.Note == "" {
			t.Errorf("%s: nothing is said", tt.name)
		}
		got.Note = ""
		if left := left("ipv4/tcp_no_metrics_save"); got != tt.want || left != tt.left {
			t.Errorf("%s: %+v, and the file says %q; want %+v, %q", tt.name, got, left, tt.want, tt.left)
		}
	}
}
