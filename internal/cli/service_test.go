package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/packaging/systemd"
)

// The unit that is installed is the one that is shipped, but for the program's place and the flags.
func TestUnitText(t *testing.T) {
	t.Parallel()
	shipped, err := os.ReadFile("../../packaging/systemd/godwit.service")
	if err != nil {
		t.Fatal(err)
	}
	f := upFlags{tun: true, lan: true}
	f.profile = defaultProfile
	if got := unitText("/usr/local/bin/godwit", serviceArgs(f)); got != string(shipped) || got != systemd.Client {
		t.Errorf("without flags it is another one:\n%s", got)
	}
	for _, tt := range []struct {
		self string
		set  func(*upFlags)
		want string
	}{
		{"/usr/bin/godwit", func(f *upFlags) { f.lan = false; f.router = true },
			`ExecStart="/usr/bin/godwit" up --service --foreground --timeout 0 --state-dir ` + serviceState +
				" --tun --lan=false --router"},
		{"/usr/local/bin/godwit", func(f *upFlags) { f.tun = false; f.profile = "office" },
			"ExecStart=/usr/local/bin/godwit up --service --foreground --timeout 0 --state-dir " + serviceState +
				" --profile office"},
		{"/usr/local/bin/godwit", func(f *upFlags) {
			f.namesFirst = true
			f.splitDNS = []string{"a.example=direct:network", "b.example=https://192.0.2.53/%7Edns"}
		},
			"ExecStart=/usr/local/bin/godwit up --service --foreground --timeout 0 --state-dir " + serviceState +
				` --tun --names-first --split-dns "a.example=direct:network" --split-dns "b.example=https://192.0.2.53/%%7Edns"`},
		{"/opt/go dwit%1/godwit", func(*upFlags) {},
			`ExecStart="/opt/go dwit%%1/godwit" up --service --foreground --timeout 0 --state-dir ` + serviceState + " --tun"},
	} {
		f := f
		tt.set(&f)
		got := unitText(tt.self, serviceArgs(f))
		if !strings.Contains(got, "\n"+tt.want+"\n") {
			t.Errorf("%q is not in\n%s", tt.want, got)
		}
		if n := strings.Count(got, "\n"); n != strings.Count(systemd.Client, "\n") || strings.Count(got, "ExecStart=") != 1 {
			t.Errorf("more than a line has changed, of %d:\n%s", n, got)
		}
	}
	// What it runs is what up takes.
	_, line, _ := strings.Cut(systemd.Client, "ExecStart=/usr/local/bin/godwit up ")
	line, _, _ = strings.Cut(line, "\n")
	if err := (&app{}).upCmd().ParseFlags(strings.Fields(line)); err != nil {
		t.Error(err)
	}
}

func TestServiceSays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state client.State
		shut  bool
		want  string
	}{
		{client.Connected, true, "connected, 0 links"},
		{client.Offline, true, "offline: no way to the gateway; until there is one this machine's network is shut"},
		{client.Connecting, false, "connecting: no way to the gateway"},
	} {
		if got := managerText(client.Status{State: tt.state}, tt.shut); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	got := managerText(client.Status{State: client.Connecting, SomebodyElse: true}, true)
	if !strings.Contains(got, "'sudo godwit portal'") || !strings.Contains(got, "is shut") {
		t.Errorf("behind a login page: %q", got)
	}
}

// The program that root's service runs must be root's, and where the service sees it.
func TestTrusted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("units are Linux's")
	}
	path := filepath.Join(t.TempDir(), "godwit")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := trusted(path); err == nil {
		t.Errorf("%s is a program for root's service", path)
	}
	if err := trusted("/usr/bin/env"); err != nil {
		t.Error(err)
	}
}
