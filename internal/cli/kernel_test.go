package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAllowBBR(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name               string
		allowed, available string // "-": no such file
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
		{"container", "-", "reno cubic\n", true, "", bbr{}, "-"},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "ipv4"), 0o700); err != nil {
			t.Fatal(err)
		}
		allowed := filepath.Join(dir, "ipv4/tcp_allowed_congestion_control")
		available := filepath.Join(dir, "ipv4/tcp_available_congestion_control")
		write := func(path, text string) {
			if text != "-" {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(allowed, tt.allowed)
		write(available, tt.available)
		got := allowBBR(t.Context(), kernel{linux: true, root: tt.root, sysctls: dir, load: func(context.Context,
			string) error {
			if tt.loaded == "" {
				return errors.New("no such module")
			}
			write(available, tt.loaded)
			return nil
		}})
		if got.Note == "" {
			t.Errorf("%s: nothing is said", tt.name)
		}
		got.Note = ""
		left, err := os.ReadFile(allowed)
		if err != nil {
			left = []byte("-")
		}
		if got != tt.want || string(left) != tt.left {
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
		dir := t.TempDir()
		file := filepath.Join(dir, "core/wmem_max")
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if tt.was != "" {
			if err := os.WriteFile(file, []byte(tt.was), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := allowSendBuffer(kernel{linux: true, root: tt.root, sysctls: dir})
		if got.Note == "" {
			t.Errorf("%s: nothing is said", tt.name)
		}
		got.Note = ""
		left, _ := os.ReadFile(file)
		if got != tt.want || string(left) != tt.left {
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
		dir := t.TempDir()
		file := filepath.Join(dir, "ipv4/tcp_no_metrics_save")
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if tt.was != "" {
			if err := os.WriteFile(file, []byte(tt.was), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := forgetPeers(kernel{linux: true, root: tt.root, sysctls: dir})
		if got.Note == "" {
			t.Errorf("%s: nothing is said", tt.name)
		}
		got.Note = ""
		left, _ := os.ReadFile(file)
		if got != tt.want || string(left) != tt.left {
			t.Errorf("%s: %+v, and the file says %q; want %+v, %q", tt.name, got, left, tt.want, tt.left)
		}
	}
}
