package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/local"
)

func testKey(t *testing.T) accesskey.Key {
	t.Helper()
	k, err := accesskey.Parse(newGateway(t).key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	ps := profiles{filepath.Join(t.TempDir(), "profiles")}
	if names, err := ps.names(); names != nil || err != nil {
		t.Errorf("of nothing: %q, %v", names, err)
	}
	choose := func(want string, ok bool) {
		t.Helper()
		if got, err := ps.choose(); got != want || (err == nil) != ok {
			t.Errorf("chose %q, %v, want %q", got, err, want)
		}
	}
	choose("default", true)
	key := testKey(t)
	for _, name := range []string{"home", "work"} {
		if _, err := ps.load(name); !errors.Is(err, errNoProfile) {
			t.Errorf("before it is saved: %v", err)
		}
		if err := errors.Join(ps.make(name), ps.save(name, key)); err != nil {
			t.Fatal(err)
		}
		if got, err := ps.load(name); got.Text() != key.Text() || err != nil {
			t.Errorf("%s: loaded %v, %v", name, got, err)
		}
		if name == "home" {
			choose("home", true)
		}
	}
	choose("", false) // which one?
	if err := errors.Join(ps.make("default"), ps.save("default", key)); err != nil {
		t.Fatal(err)
	}
	choose("default", true)
	info, err := os.Stat(filepath.Join(ps.path("home"), "key"))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(ps.path("home"), "key"), []byte(key.Text()[:80]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ps.load("home"); !errors.Is(err, accesskey.ErrTruncated) || !strings.Contains(err.Error(), "home") {
		t.Errorf("a damaged file: %v", err)
	}
	inst, err := local.Take(ps.path("work"), clientProcess)
	if err != nil {
		t.Fatal(err)
	}
	var up *alreadyUpError
	if err := ps.forget("work"); !errors.As(err, &up) || up.pid != os.Getpid() {
		t.Errorf("forgotten while it is up: %v", err)
	}
	if err := inst.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ps.forget("work"); err != nil {
		t.Error(err)
	}
	if names, _ := ps.names(); strings.Join(names, " ") != "default home" {
		t.Errorf("left are %q", names)
	}
}

// Why a tunnel ended is told once, and not of the one after.
func TestLastEnd(t *testing.T) {
	t.Parallel()
	ps := profiles{t.TempDir()}
	if err := ps.make("x"); err != nil {
		t.Fatal(err)
	}
	if got := ps.lastEnd("x"); got != "" {
		t.Errorf("before: %q", got)
	}
	ps.noteEnd("x", errors.New("the access key was revoked "+strings.Repeat("y", 2*maxEnded)))
	if got := ps.lastEnd("x"); !strings.Contains(got, "it ended at 2") || !strings.Contains(got, "was revoked y") ||
		len(got) > 2*maxEnded {
		t.Errorf("after: %q", got)
	}
	ps.noteEnd("x", nil)
	if got := ps.lastEnd("x"); got != "" {
		t.Errorf("cleared: %q", got)
	}
	if err := os.WriteFile(filepath.Join(ps.path("x"), "ended"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ps.lastEnd("x"); got != "" {
		t.Errorf("of nonsense: %q", got)
	}
}

// The log of a tunnel that is up for months takes two files of bounded size, and its end is there.
func TestLogFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	for range 3*maxLog/len(line) + 5 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	l.Write([]byte("the end\n"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = openLog(dir); err != nil { // the next one goes on
		t.Fatal(err)
	}
	l.Write([]byte("again\n"))
	l.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("files %v, %v, want two", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() > maxLog+int64(len(line)) {
			t.Errorf("%s: %d bytes, %v", e.Name(), info.Size(), err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "client.log"))
	if err != nil || !bytes.HasSuffix(text, []byte("x\nthe end\nagain\n")) {
		t.Errorf("it ends in %q, %v", text[max(0, len(text)-40):], err)
	}
}

func TestWithoutKey(t *testing.T) {
	t.Parallel()
	got := withoutKey([]string{"HOME=/x", "GODWIT_KEY=godwit://secret", "GODWIT_LOG=debug"})
	if want := "HOME=/x GODWIT_LOG=debug"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
