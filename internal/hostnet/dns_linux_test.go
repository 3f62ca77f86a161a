package hostnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// TestResolvConf shows that resolv.conf comes back as it was, in all the ways it can be there.
func TestResolvConf(t *testing.T) {
	asked := Desired{DNS: []netip.Addr{netip.MustParseAddr("100.64.9.1"), netip.MustParseAddr("fd77::1")}}
	const theirs = "nameserver 192.0.2.53\nsearch home\n"
	tests := []struct {
		name string
		make func(t *testing.T, etc, path string)
	}{
		{"file", func(t *testing.T, etc, path string) {
			must(t, os.WriteFile(path, []byte(theirs), 0o604), os.Chmod(path, 0o604), os.Chown(path, 0, 0))
		}},
		{"link", func(t *testing.T, etc, path string) {
			must(t, os.Mkdir(filepath.Join(etc, "run"), 0o755), os.WriteFile(filepath.Join(etc, "run/resolv.conf"), []byte(theirs), 0o644))
			must(t, os.Symlink("run/resolv.conf", path))
		}},
		{"dangling link", func(t *testing.T, etc, path string) { must(t, os.Symlink("nowhere/resolv.conf", path)) }},
		{"none", func(t *testing.T, etc, path string) {}},
		{"mounted", func(t *testing.T, etc, path string) {
			netnstest.Need(t)
			over := filepath.Join(t.TempDir(), "over")
			must(t, os.WriteFile(path, nil, 0o644), os.WriteFile(over, []byte(theirs), 0o644))
			must(t, unix.Mount(over, path, "", unix.MS_BIND, ""))
			t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &Host{dir: t.TempDir(), etc: t.TempDir()}
			tt.make(t, h.etc, h.resolvConf())
			before, err := readResolv(h.resolvConf())
			must(t, err)
			for range 2 {
				must(t, h.setDNS(asked))
				text, err := os.ReadFile(h.resolvConf())
				must(t, err)
				if !strings.Contains(string(text), "nameserver 100.64.9.1\nnameserver fd77::1\n") || strings.Contains(string(text), "192.0.2.53") {
					t.Fatalf("resolv.conf: %s", text)
				}
				other := asked
				other.DNS = other.DNS[:1]
				must(t, h.setDNS(other), h.setDNS(asked))
			}
			// By another process, from what is on the disk.
			h = &Host{dir: h.dir, etc: h.etc}
			h.kept, err = kept.Read[changes](h.dir)
			must(t, err)
			undone, err := h.restoreDNS()
			must(t, err)
			if len(undone) != 1 {
				t.Errorf("undone: %q", undone)
			}
			after, err := readResolv(h.resolvConf())
			must(t, err)
			if before.Link != after.Link || before.Absent != after.Absent || string(before.Text) != string(after.Text) ||
				before.Mode != after.Mode || before.UID != after.UID {
				t.Errorf("after: %+v\nbefore: %+v", after, before)
			}
			if _, err := os.Lstat(h.resolvTemp()); err == nil {
				t.Error("a temporary file is left")
			}
		})
	}
}

// TestResolvConfOfOthers shows whose text stays when somebody else writes resolv.conf meanwhile.
func TestResolvConfOfOthers(t *testing.T) {
	h := &Host{dir: t.TempDir(), etc: t.TempDir()}
	write := func(text string) { t.Helper(); must(t, os.WriteFile(h.resolvConf(), []byte(text), 0o644)) }
	read := func() string {
		t.Helper()
		text, err := os.ReadFile(h.resolvConf())
		must(t, err)
		return string(text)
	}
	asked := Desired{DNS: []netip.Addr{netip.MustParseAddr("100.64.9.1")}}
	write("nameserver 192.0.2.1\n")
	must(t, h.setDNS(asked))
	write("nameserver 192.0.2.2\n") // a new lease
	must(t, h.setDNS(asked))
	if !strings.Contains(read(), "nameserver 100.64.9.1\n") {
		t.Errorf("set again: %s", read())
	}
	must(t, h.setDNS(Desired{}))
	if read() != "nameserver 192.0.2.2\n" {
		t.Errorf("put back: %s", read())
	}
	must(t, h.setDNS(asked))
	write("nameserver 192.0.2.3\n")
	undone, err := h.restoreDNS()
	must(t, err)
	if read() != "nameserver 192.0.2.3\n" || len(undone) != 1 || !strings.Contains(undone[0], "left as it is") {
		t.Errorf("left: %s, %q", read(), undone)
	}
}

// TestResolved shows what systemd-resolved is told, by a program that writes down how it was called.
func TestResolved(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "resolvectl"), []byte("#!/bin/sh\necho \"$*\" >>"+dir+"/told\n"), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h := &Host{dir: t.TempDir(), etc: t.TempDir()}
	must(t, os.Symlink("../run/systemd/resolve/stub-resolv.conf", h.resolvConf()))
	asked := Desired{Tun: "lo", DNS: []netip.Addr{netip.MustParseAddr("100.64.9.1")}}
	h.dns, h.asked = asked.DNS, filepath.Join(dir, "asked")
	asks := func(text string) { must(t, os.WriteFile(h.asked, []byte(text), 0o644)) }
	asks("nameserver 192.0.2.1\nnameserver 100.64.9.1\n")
	must(t, h.setDNS(Desired{DNS: asked.DNS}), h.setDNS(asked), h.setDNS(asked))
	if got := h.Resolvers(); len(got) != 1 || got[0].String() != "192.0.2.1" {
		t.Errorf("the machine's own: %v", got)
	}
	asks("nameserver 192.0.2.1\n") // somebody has told it otherwise
	must(t, h.setDNS(asked), h.setDNS(Desired{}))
	told, err := os.ReadFile(filepath.Join(dir, "told"))
	must(t, err)
	if want := "dns lo 100.64.9.1\ndomain lo ~.\ndefault-route lo yes\ndnsovertls lo no\ndnssec lo no\nflush-caches\n"; string(told) != want+want+"revert lo\n" {
		t.Errorf("told:\n%swant, twice and then revert:\n%s", told, want)
	}
	if now, err := readResolv(h.resolvConf()); err != nil || now.Link == "" {
		t.Errorf("resolv.conf: %+v, %v", now, err)
	}
}
